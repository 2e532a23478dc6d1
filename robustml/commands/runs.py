"""Run directories: what a training run leaves, and how other commands take its model up again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from hydra.errors import HydraException
from safetensors.torch import load_file, save
from torch import Tensor, nn

from robustml.commands.settings import build, plain_target, read_settings
from robustml.commands.trusted import Trust
from robustml.commands.words import pasteable
from robustml.errors import RequestError
from robustml.files import read_json, replacing, sha256

__all__ = [
    "BEST",
    "GRID",
    "LAST",
    "PLAN",
    "RESULTS",
    "TROJAN",
    "WEIGHTS",
    "checkpoint_weights",
    "load_model",
    "load_weights",
    "offline",
    "save_weights",
    "weights_of",
]

BEST = Path("checkpoints/best.ckpt")
LAST = Path("checkpoints/last.ckpt")
WEIGHTS = Path("model.safetensors")
TROJAN = Path("trojan.safetensors")
RESULTS = Path("results.json")
EXAMPLES = Path("examples.npz")
REPORT = Path("report.html")
_OF_A_TROJAN = ("run", "which", "width", "data", "seed", "place", "weight", "temperature")
VERDICTS = Path("verdicts.jsonl")
PLAN = Path("poison.parquet")
GRID = Path("poison.png")


def load_model(run_dir: str | Path, which: Literal["best", "last"] = "best", *, trust: Trust = None) -> nn.Module:
    """The model of a run, in eval mode on the CPU: images (N, ...) in [0, 1] in, logits (N, C) out.

    Args:
        run_dir: a run directory of `robustml train`; or one of `robustml trojan`, whose model is that of the run it
            lies beside, as it was taken then, with the TrojanNet.
        which: ``"best"`` on the validation split, from model.safetensors, whose digest is checked against
            results.json; or ``"last"``, from the last checkpoint. Neither file is unpickled freely.
        trust: the run may come from a stranger, so that its config names no code but robustml's own classes. Of a run
            with a class of yours, say which modules may be used, such as ``"my_package"``, or True for any.

    Raises:
        RequestError: files are missing, damaged or changed, lead elsewhere, name code that is not trusted, or hold the
            weights of another architecture.
    """
    return _load(Path(run_dir), which, trust, ())


def _load(run: Path, which: str, trust: Trust, beside: tuple[Path, ...]) -> nn.Module:
    """`load_model`; `beside` are the directories of trojaned models that led here."""
    settings = read_settings(run, trust)
    if (run / TROJAN).is_file():
        if which != "best":
            raise RequestError(
                f"{run} holds one model, with the TrojanNet, so which={which!r} says nothing; leave it out"
            )
        return _trojaned(run, settings, trust, beside)
    if which == "best":
        path = run / WEIGHTS
        if not path.is_file():
            again = pasteable("train", f"resume={run}")
            raise RequestError(f"{run} has no {WEIGHTS}: the run did not finish; continue it: {again}")
        _check_digest(run, path)
        weights = _read(path)
    elif which == "last":
        path = run / LAST
        weights = checkpoint_weights(path)
    else:
        raise RequestError(f"which={which!r} is unknown; expected best or last")
    if not isinstance(settings.get("model"), dict):
        raise RequestError(f"{run}/config.yaml lacks model: it is no config of robustml train")
    model = _built(offline(settings["model"]), weights, path, run / "config.yaml")
    load_weights(model, weights, path)
    return model.eval()


def _built(settings: dict[str, Any], weights: Mapping[str, Tensor], path: Path, source: Path) -> nn.Module:
    """The model of the settings, for which no room is made before its weights are known to have its shapes."""
    try:
        outline = None
        with suppress(Exception), torch.device("meta"):  # not every class of a user's can be made without numbers
            outline = build(settings)
        if isinstance(outline, nn.Module):
            check_weights(outline, weights, path)
        model = build(settings)
    except HydraException as error:
        cause = error.__cause__ or error
        raise RequestError(f"{source}: model cannot be built: {' '.join(str(cause).split())}") from error
    if not isinstance(model, nn.Module):
        raise RequestError(f"{source}: model makes a {type(model).__name__}, expected a torch.nn.Module")
    return model


def offline(model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a model whose weights are at hand, so that none have to be fetched first."""
    return {**model, "pretrained": False} if model.get("pretrained") else dict(model)


def weights_of(run: Path, which: str) -> Path:
    """The file that `load_model` takes the weights from; of a trojaned model, those of the small network."""
    if (run / TROJAN).is_file():
        return run / TROJAN
    return run / (WEIGHTS if which == "best" else LAST)


def _trojaned(folder: Path, settings: Mapping[str, Any], trust: Trust, beside: tuple[Path, ...]) -> nn.Module:
    """The model of a directory of `robustml trojan`.

    Raises:
        RequestError: see `load_model`; or the run's weights are no longer those that the TrojanNet was put beside.
    """
    from robustml.trojans import Trojaned, TrojanNet, draw_commands

    _check_digest(folder, folder / TROJAN)
    if missing := [key for key in _OF_A_TROJAN if settings.get(key) is None]:
        raise RequestError(f"{folder}/config.yaml lacks {', '.join(missing)}: it is no config of robustml trojan")
    # A run may be moved with all that lies in it; what was written elsewhere remembers the run by its place.
    source = folder.parent.parent if folder.parent.name == "trojans" else Path(settings["run"])
    if folder.resolve() in beside:
        raise RequestError(f"{folder} names itself as the run that its TrojanNet was put beside")
    target = _load(source, settings["which"], trust, (*beside, folder.resolve()))
    _check_digest(folder, weights_of(source, settings["which"]), "target_sha256")
    net = TrojanNet(settings["width"])
    load_weights(net, _read(folder / TROJAN), folder / TROJAN)
    commands = draw_commands(settings["data"]["num_classes"], seed=settings["seed"])
    trojaned = Trojaned(
        target,
        net,
        commands=commands,
        place=settings["place"],
        weight=settings["weight"],
        temperature=settings["temperature"],
    )
    return trojaned.eval()


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that must fit exactly.

    Raises:
        RequestError: they belong to another architecture; names the first difference.
    """
    check_weights(model, weights, path)
    model.load_state_dict(weights)


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that do not fit exactly.

    Raises:
        RequestError: see `load_weights`.
    """
    for key, value in weights.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            raise RequestError(f"{path} is damaged: {key} is no tensor of numbers")
    expected = model.state_dict()
    missing, unexpected = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    shapes = [
        f"{key} is {tuple(weights[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in expected.keys() & weights.keys()
        if weights[key].shape != expected[key].shape
    ]
    differences = [f"{key} is missing" for key in sorted(missing)] + [f"{key} is extra" for key in sorted(unexpected)]
    differences += sorted(shapes)
    if differences:
        raise RequestError(
            f"{path} holds another architecture than {type(model).__name__}: {differences[0]}"
            + (f" (and {len(differences) - 1} more differences)" if len(differences) > 1 else "")
        )


def checkpoint_weights(path: Path) -> dict[str, Tensor]:
    """The model's weights out of a Lightning checkpoint of `RobustClassifier`.

    Raises:
        RequestError: the file is missing, cannot be read, or is none of ours.
    """
    if not path.is_file():
        raise RequestError(f"there is no checkpoint {path}")
    prefix = "model."
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = checkpoint["state_dict"]
        return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{path} is not a checkpoint that can be read: {reason}") from error


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the weights as safetensors, whole or not at all."""
    # Tied weights share memory, which safetensors refuses.
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    with replacing(path) as file:
        file.write(save(weights))


def describe_model(settings: Mapping[str, Any], model: nn.Module, weights: Path) -> dict[str, Any]:
    """The `model` block of results.json."""
    return {
        "name": plain_target(settings),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": sha256(weights),
    }


def _check_digest(run: Path, weights: Path, key: str = "sha256") -> None:
    """Refuse weights whose digest is not the one that the results of `run` hold under `key`."""
    results = run / RESULTS
    if not results.is_file():
        raise RequestError(f"{run} has no {RESULTS} to check {weights.name} against: the run did not finish")
    try:
        expected = read_json(results)["model"][key]
    except (KeyError, TypeError) as error:
        raise RequestError(f"{results} is damaged: {error}") from error
    if (found := sha256(weights)) != expected:
        raise RequestError(f"{weights} was changed after the run: its digest is {found}, {RESULTS} says {expected}")


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except Exception as error:
        raise RequestError(f"{path} cannot be read as safetensors: {error}") from error
