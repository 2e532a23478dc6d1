"""Train what a paper did, each seed in a process and folder of its own: begun, taken up where killed, or left as done.

The log of a training is its lock, too: the process that trains holds it, so that whoever comes while an orphan of a
killed command still trains there waits for it.
"""

from __future__ import annotations

import fcntl
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from robustml.errors import RequestError, RunFailed
from robustml.files import write_text
from robustml.progress import track
from robustml.reporting.figures.health import health_of_variants
from robustml.reporting.pages.reproduction import write_reproduction_page
from robustml.reporting.reproduction.finished import read_seed
from robustml.reporting.reproduction.tables import cost_text, reproduction_text, summary
from robustml.reporting.reproduction.verdicts import compare
from robustml.results import write_checked
from robustml.results.paper import Paper
from robustml.results.reproduction import Reproduction, SeedRun
from robustml.say import say
from robustml.untrusted import own_files
from robustml.workflows.settings import leaves, read_settings
from robustml.workflows.settings.building import Settings

LOG = Path("train.log")
# What a folder may differ in from what is asked for: what was said of the paper, and how the run was started.
APART = ("overrides", "paper", "resume")
_OWN_FOLDER = re.compile(r"^.*/seed-\d+(?=/|$)")


@dataclass(frozen=True)
class Training:
    """One of a paper's trainings.

    Args:
        variant: of the paper.
        seed: of the training.
        run: its directory.
        words: what `robustml train` is told.
        settings: what those compose to.
    """

    variant: str
    seed: int
    run: Path
    words: Sequence[str]
    settings: Callable[[], Settings]


def reproduce(paper: Paper, trainings: Sequence[Training], folder: Path, changed: Sequence[str] = ()) -> Reproduction:
    """Train what is not trained yet, and set the figures beside the published ones.

    Args:
        paper: what was published.
        trainings: whose directories lie below the folder.
        folder: gets reproduction.json, reproduction.html and, where the trainings watched their health, its figure.
        changed: what was asked for beside what the paper says.

    Raises:
        RequestError: a folder holds another training, or a training refused the request.
        RunFailed: a published figure that was measured is not within its tolerance, or a training failed.
    """
    seeds, variants = ({getattr(each, name) for each in trainings} for name in ("seed", "variant"))
    say(f"{paper.title}: {len(variants)} x {len(seeds)} trainings, {cost_text(paper)}")
    runs, finished = [], {}
    for each in track(trainings, "trainings"):
        name = each.run.relative_to(folder).as_posix()
        try:
            rerun(each)
        except RunFailed as error:
            print(f"  {each.run}: {error}", file=sys.stderr)
            runs.append(SeedRun(variant=each.variant, seed=each.seed, folder=name, failed=str(error)))
            continue
        seen, finished[each.variant, each.seed] = read_seed(each.run, paper, each.variant, each.seed, name)
        runs.append(seen)
    reproduction = compare(paper, runs, finished, list(changed))
    say("\n" + reproduction_text(reproduction) + "\n")
    write_checked(reproduction, folder / "reproduction.json")
    health = health_of_variants({key: one.run.health for key, one in finished.items() if one.run.health is not None})
    if health:
        # a file of its own, on white whatever the page around it
        alone = health.replace("<svg ", '<svg style="background:#fff" ', 1) + "\n"
        say(f"figure: {write_text(folder / 'reproduction.svg', alone)}")
    say(f"report: {write_reproduction_page(reproduction, folder / 'reproduction.html', health)}")
    say(summary(reproduction))
    say(f"run: {folder}")
    if reproduction.missed:
        unmeasured = f"; not measured: {', '.join(reproduction.unmeasured)}" if reproduction.unmeasured else ""
        raise RunFailed(f"{paper.id} is not reproduced: {'; '.join(reproduction.missed)}{unmeasured}")
    return reproduction


def rerun(training: Training) -> None:
    """Do a training in a process of its own, unless that is done; go on with what is half done.

    Raises:
        RequestError: the folder holds another training, or the training refused the request.
        RunFailed: the training failed; the log is named.
    """
    run = training.run
    run.mkdir(parents=True, exist_ok=True)
    own_files(run)
    with (run / LOG).open("a") as log:
        _lock(log, run)
        begun = (run / "checkpoints" / "last.ckpt").is_file()
        finished = (run / "results.json").is_file()
        if begun or finished:
            _same(training.settings(), run)
        if finished:
            say(f"  {run}: done before")
            return
        if not begun:
            (run / "config.yaml").unlink(missing_ok=True)  # killed before its first checkpoint: nothing to continue
        task = [f"resume={run}"] if begun else [*training.words, f"hydra.run.dir={run}"]
        say(f"  {run}: {'resumed' if begun else 'training'}, log in {run / LOG}")
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
        say(f"  {run}: another process trains there; waiting for it")
        fcntl.flock(log, fcntl.LOCK_EX)


def _same(asked: dict[str, Any], run: Path) -> None:
    """Refuse a folder whose training is not the one that is asked for."""
    there, wanted = (
        {
            key: _OWN_FOLDER.sub("", value) if isinstance(value, str) else value  # paths as they are seen from there
            for key, value in leaves(settings).items()
            if key.partition(".")[0] not in APART
        }
        for settings in (read_settings(run), asked)
    )
    for key in sorted(there.keys() | wanted.keys()):
        found, expected = there.get(key), wanted.get(key)
        # The data fill these in once they are loaded.
        if found != expected and not (expected is None and key.endswith((".shape", ".num_classes", ".class_names"))):
            raise RequestError(
                f"{run} holds a training with {key}={found}, and {key}={expected} is asked for: choose another out=, "
                "or remove the folder"
            )
