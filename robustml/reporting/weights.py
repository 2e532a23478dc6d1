"""Whether the weights beside a results.json are those that it measured: their digest is computed anew.

Only names that a run itself may hold are looked at, and only regular files are read, so that a results.json or a
config.yaml of a stranger cannot lead elsewhere than to a digest that does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from robustml.errors import RunFailed, printable
from robustml.files import sha256
from robustml.results import Results, read_settings_file

_OWN = {
    **dict.fromkeys(("train", "repair"), "model.safetensors"),
    "trojan": "trojan.safetensors",
    "extract": "copy.safetensors",
}
_LAST = "checkpoints/last.ckpt"


def verify_weights(folder: Path, results: Results) -> list[str]:
    """Compute the digests of all weights that a run or an evaluation is about, and hold them against its results.

    Args:
        folder: the directory that holds the results.json.
        results: what it says.

    Returns:
        A line for each file: its name, its digest and what named that.

    Raises:
        RunFailed: the results name no digest, or weights are missing, or not those that were measured.
    """
    if results.model.sha256 is None:
        raise RunFailed("results.json names no digest of the weights, so that nothing can be verified")
    config = read_settings_file(folder / "config.yaml")
    lines = [_verified(list(_places(folder, results.command, config)), results.model.sha256)]
    # A TrojanNet lies beside the weights of another run: both are the model.
    target = results.model.target_sha256
    if results.command == "trojan" and target is not None:
        lines.append(_verified(list(_of_run(folder, config)), target))
    return lines


def _verified(places: list[Path], expected: str) -> str:
    """The line on the first file that is there, which must have the digest."""
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        looked = f"; looked for {printable(str(places[0]))}" if places else ""
        raise RunFailed(f"the weights that were measured are missing ({expected}){looked}")
    found = sha256(path)
    if found != expected:
        raise RunFailed(
            f"{printable(str(path))} does not hold the weights that were measured: its digest is {found}, results.json "
            f"says {expected}"
        )
    return f"{path.name} {found} as in results.json"


def _places(folder: Path, command: str, config: dict[str, Any]) -> Iterator[Path]:
    """Where the weights of a results.json may lie, the likeliest place first."""
    if command in _OWN:
        yield folder / _OWN[command]
    elif isinstance(checkpoint := config.get("checkpoint"), str):
        yield Path(checkpoint)
        yield folder / checkpoint
    elif command in ("evaluate", "detect"):
        yield from _of_run(folder, config)


def _of_run(folder: Path, config: dict[str, Any]) -> Iterator[Path]:
    """The weights of the run that a directory was written into; of the one that its config names where it was not."""
    above = folder.absolute().parents
    # <run>/evaluations/<time>, <run>/trojans/<time>, <run>/sweeps/<time>/<number>
    depths = {"evaluations": 0, "detections": 0, "trojans": 0, "sweeps": 1}
    runs = [above[depth + 1] for name, depth in depths.items() if depth + 1 < len(above) and above[depth].name == name]
    if isinstance(run := config.get("run"), str):
        runs.append(Path(run))
    names = [_LAST] if config.get("which") == "last" else [_OWN["trojan"], _OWN["train"]]
    yield from (run / name for run in runs for name in names)
