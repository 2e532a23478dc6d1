"""Reading a run directory never runs code that it names: every command that takes one, on those that mean harm."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.forks import Outcome, inside
from integration.hostile import HOSTILE
from robustml.workflows.integrity.keys import new_keys

WORDS: dict[str, tuple[str, ...]] = {
    "evaluate": ("evaluate", "run={run}", "evaluation=clean", "evaluation.limit=20"),
    "evaluate last": ("evaluate", "run={run}", "which=last", "evaluation=clean", "evaluation.limit=20"),
    "detect": ("detect", "run={run}", "detector=outliers"),
    "extract": ("extract", "victim={run}", "method=copycat", "budget=20", "method.training.epochs=1"),
    "finetune": ("finetune", "run={run}", "trainer.max_epochs=1", "output={here}/tuned"),
    "trojan": ("trojan", "run={run}", "width=8", "steps=2"),
    "repair": ("repair", "run={run}", "repair=clp"),
    "shortcuts": ("shortcuts", "run={run}"),
    "serve": ("serve", "run={run}", "port=0"),
    "resume": ("train", "resume={run}"),
    "exclude": ("train", "debug=fast", "data.exclude={run}/suspects.parquet", "output={here}/other"),
    "report": ("report", "{run}"),
    "card": ("card", "{run}"),
    "gate": ("gate", "run={run}", "clean_accuracy>=0"),
    "scan": ("model", "scan", "{run}"),
    "verify": ("model", "verify", "run={run}", "trust={here}/keys"),
    "lineage": ("lineage", "run={run}", "trust={here}/keys"),
    "sweep": ("sweep", "eps", "run={run}"),
}
# those that take a moment, where they get as far as to compute
QUICK = {"report", "card", "gate", "scan", "verify", "lineage", "resume", "evaluate last", "evaluate"}
HEARD: list[str] = []


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what would be a harm; an audit hook stays for ever, so it looks at nothing else."""
    if event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pty.spawn"):
        if arguments[0] == "git":  # which commit results.json is of
            return
        HEARD.append(f"{event} {arguments[:2]}")
    elif event == "pickle.find_class" and arguments[0] in ("os", "posix", "builtins", "stranger"):
        HEARD.append(f"{event} {arguments}")
    elif event == "import" and str(arguments[0]).partition(".")[0] in ("stranger", "sitecustomize"):
        HEARD.append(f"{event} {arguments[0]}")


sys.addaudithook(_listen)


@pytest.fixture
def place(trained: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a run, keys, and a module that makes the canary when it is imported."""
    shutil.copytree(trained.run, tmp_path / "run")
    new_keys(tmp_path / "keys")
    (tmp_path / "stranger.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'canary')!r})\n")
    monkeypatch.setenv("ROBUSTML_TRUST", "")
    monkeypatch.setattr("robustml.extraction.endpoint.server.serve", lambda _, bound: bound.close())
    HEARD.clear()
    yield tmp_path
    sys.modules.pop("stranger", None)


def ask(verb: str, place: Path) -> Outcome:
    """The outcome of a command, which may refuse, but in one line, and without running anything of the run's."""
    before = set(os.environ)
    words = [word.format(run=place / "run", here=place) for word in WORDS[verb]]
    done = inside(*words, cwd=place)
    said = f"{verb}: exit {done.status}\n{done.out}\n{done.err}"
    assert not (place / "canary").exists(), said
    assert "stranger" not in sys.modules, said
    assert [*HEARD] == [], said
    assert "Traceback" not in done.out + done.err, said
    assert "ROBUSTML_TRACEBACK" not in done.err, f"not foreseen: {said}"
    assert done.status in (0, 1, 2, 3), said
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == (1 if done.status == 2 else len(errors[:1])), said
    assert all(line.isprintable() for line in done.err.splitlines()), said
    assert set(os.environ) == before
    return done


CASES = [(name, verb) for name, hostile in HOSTILE.items() for verb in hostile.refused_by]
# one of each kind of file, so that the rest can be slow
FAST = [(name, next((verb for verb in hostile.refused_by if verb in QUICK), None)) for name, hostile in HOSTILE.items()]


def refused(name: str, verb: str, place: Path) -> None:
    HOSTILE[name].change(place / "run", place / "canary")
    done = ask(verb, place)
    assert done.status in (1, 2), f"{verb} took it: {done.out}\n{done.err}"


@pytest.mark.parametrize(("name", "verb"), [case for case in FAST if case[1]])
def test_refused_in_one_line(name: str, verb: str, place: Path) -> None:
    refused(name, verb, place)


def test_nothing_of_a_run_of_ours_is_refused(place: Path) -> None:
    done = ask("scan", place)
    assert (done.status, done.out.splitlines()[-1]) == (0, "nothing is refused"), done.out


@pytest.mark.slow
@pytest.mark.parametrize(("name", "verb"), [case for case in CASES if case not in FAST])
def test_refused_by_every_command_that_reads_it(name: str, verb: str, place: Path) -> None:
    refused(name, verb, place)


# what holds code, not only lies
CODE = [
    name for name in HOSTILE if {*name.split()} & {"class", "shell", "tag", "pickle", "pickles", "objects", "script"}
]


@pytest.mark.slow
@pytest.mark.parametrize("name", CODE)
def test_no_command_runs_anything(name: str, place: Path) -> None:
    """All commands, also those that do not look at what was changed: they may do their work."""
    HOSTILE[name].change(place / "run", place / "canary")
    for verb in WORDS:
        if verb != "sweep":
            ask(verb, place)
