"""Every command that README and docs show composes: its groups, options and keys exist under these names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from integration.forks import Outcome, inside

ROOT = Path(__file__).parents[2]
FIRST = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "how-to").glob("*.md")))
# A line of a code block, or a span of code, which a line may break.
COMMAND = re.compile(r"^robustml ([^`\n]+)$|`(?:\w+=\w+ )*robustml ([^`]+)`", re.MULTILINE)
# Their words are no config, or name what only a run of the reader's has.
OTHERS = (
    "card",
    "check",
    "configs",
    "gate",
    "model scan",
    "poison restore",
    "report",
    "reproduce",
    "sweep",
    "train --config-dir",
)


def documented(*pages: Path) -> list[str]:
    found = set()
    for page in pages:
        for line, span in COMMAND.findall(page.read_text()):
            words = " ".join((line.partition("  #")[0] or span).split())
            if "=" in words and not words.startswith(OTHERS) and not re.search(r"\.\.\.|resume=", words):
                found.add(words)
    return sorted(found)


COMMANDS = documented(*FIRST)
MORE = sorted(set(documented(*(ROOT / "docs").rglob("*.md"))).difference(COMMANDS))


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 35
    assert len(MORE) > 20


@pytest.mark.parametrize(
    "line", [*COMMANDS, *(pytest.param(line, marks=pytest.mark.slow) for line in MORE)], ids=lambda line: line[:60]
)
def test_it_composes(line: str, trained: Outcome, tmp_path: Path) -> None:
    words = shlex.split(re.sub(r"<[^<>]+>", str(trained.run), line))
    if "-m" in words:  # the first job of a multirun stands for all of them
        words = [re.split(r",(?![^\[]*\])", word)[0] for word in words if word != "-m"]
    outcome = inside(*words, "--cfg", "job", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
