from __future__ import annotations

import io
import os

import pytest

from robustml.commands.ending.failures import report_failures
from robustml.errors import RequestError
from robustml.say import fitted_lines, is_first_process, say

NAMES = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


def fail() -> None:
    raise RequestError("wrong")


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        # torchrun, on the first and on the second machine
        ({"RANK": "0", "LOCAL_RANK": "0", "GROUP_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False),
        # Lightning starting the processes of the second machine: the first of them has no LOCAL_RANK
        ({"NODE_RANK": "0"}, True),
        ({"NODE_RANK": "1"}, False),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, False),
        ({"GROUP_RANK": "1", "LOCAL_RANK": "0"}, False),
        # Slurm: a task each, and a shell in which Lightning starts the others
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}, True),
        ({"SLURM_PROCID": "4", "SLURM_LOCALID": "0"}, False),
        ({"SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False),
        ({"JSM_NAMESPACE_RANK": "3"}, False),
    ],
)
def test_one_process_of_all_machines_speaks(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first
    say("a line")
    with pytest.raises(SystemExit) as exit_:
        report_failures(fail)
    spoken = capsys.readouterr()
    assert (spoken.out, spoken.err) == (("a line\n", "error: wrong\n") if first else ("", ""))
    assert exit_.value.code == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_cannot_be_broken_has_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: os.terminal_size((20, 24)))
    path = "/" + "long" * 8
    lines = [f"run: {path}", f"kept in {path} until then", "a few words that go on and on"]
    assert [*fitted_lines(lines, Terminal())] == [
        f"run: {path}", "kept in", path, "until then", "a few words that go", "  on and on",
    ]  # fmt: skip
    assert [*fitted_lines(lines, io.StringIO())] == lines
