"""One training in a process of its own, in a folder of its own: begun, taken up where it was killed, or left as done.

The log of the training is its lock, too: the process that trains holds it, so that whoever comes while an orphan of a
killed command still trains there waits for it.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from robustml.errors import RequestError, RunFailed
from robustml.untrusted import own_files

__all__ = ["rerun"]

LOG = Path("train.log")
# What a folder may differ in from what is asked for: what was said of the paper, and how the run was started.
APART = ("overrides", "paper", "resume")
_OWN_FOLDER = re.compile(r"^.*/seed-\d+(?=/|$)")


def rerun(words: Sequence[str], run: Path, own: Path | None = None) -> None:
    """Train into `run` what `robustml train <words>` would, unless that is done; go on with what is half done.

    Args:
        words: overrides.
        run: the run directory.
        own: a folder of a user's configs.

    Raises:
        RequestError: the folder holds another training, or the training refused the request.
        RunFailed: the training failed; the log is named.
    """
    run.mkdir(parents=True, exist_ok=True)
    own_files(run)
    with (run / LOG).open("a") as log:
        _lock(log, run)
        begun = (run / "checkpoints" / "last.ckpt").is_file()
        finished = (run / "results.json").is_file()
        if begun or finished:
            # Hydra is slow to import, and a list of papers needs none of it.
            from robustml.commands.hydra.composing import composed

            _same(composed(words, run, own), run)
        if finished:
            print(f"  {run}: done before", flush=True)
            return
        if not begun:
            (run / "config.yaml").unlink(missing_ok=True)  # killed before its first checkpoint: nothing to continue
        options = [] if own is None else ["--config-dir", str(own)]
        task = [f"resume={run}"] if begun else [*options, *words, f"hydra.run.dir={run}"]
        print(f"  {run}: {'resumed' if begun else 'training'}, log in {run / LOG}", flush=True)
        before = (run / LOG).stat().st_size
        status = launch(["train", *task], log)
    if status:
        lines = (run / LOG).read_bytes()[before:].decode(errors="replace").splitlines()
        said = [line for line in lines if line.startswith("error: ")]
        reason = said[-1].removeprefix("error: ") if said else f"exit status {status}"
        raise (RequestError if status == 2 else RunFailed)(f"{reason} (log: {run / LOG})")


def launch(words: Sequence[str], log: IO[str]) -> int:
    """`robustml <words>` in a new process that writes into the log, and holds it open; its exit status."""
    command = [sys.executable, "-m", "robustml.cli", *words]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, check=False
    ).returncode


def _lock(log: IO[str], run: Path) -> None:
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        print(f"  {run}: another process trains there; waiting for it", flush=True)
        fcntl.flock(log, fcntl.LOCK_EX)


def _same(asked: dict[str, Any], run: Path) -> None:
    """Refuse a folder whose training is not the one that is asked for."""
    from robustml.workflows.settings import read_settings

    # Through YAML and back, as the recorded ones went.
    there, wanted = _leaves(read_settings(run)), _leaves(yaml.safe_load(yaml.safe_dump(asked)))
    for key in sorted(there.keys() | wanted.keys()):
        found, expected = there.get(key), wanted.get(key)
        # The data fill these in once they are loaded.
        if found != expected and not (expected is None and key.endswith((".shape", ".num_classes", ".class_names"))):
            raise RequestError(
                f"{run} holds a training with {key}={found}, and {key}={expected} is asked for: choose another out=, "
                "or remove the folder"
            )


def _leaves(node: Any, prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted key; paths inside the run's own folder as they are seen from there."""
    if isinstance(node, dict):
        leaves: dict[str, Any] = {}
        for key, value in node.items():
            if prefix or key not in APART:
                leaves |= _leaves(value, f"{prefix}.{key}" if prefix else str(key))
        return leaves
    return {prefix: _OWN_FOLDER.sub("", node) if isinstance(node, str) else node}
