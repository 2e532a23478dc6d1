"""How far a loop is: shown to whoever asked for it, and to nobody else."""

from __future__ import annotations

import io
import re
import sys

import pytest

from robustml.progress import shown, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_nobody_who_did_not_ask_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr().out == ""


def test_where_no_terminal_is_a_loop_leaves_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with shown():
        for outer in track(range(2), "outer \x1b[31m", lambda: "all well"):
            assert list(track(iter("ab"), "inner")) == ["a", "b"], outer
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"[\d.]+ s", "t", line) for line in lines] == [
        "  inner: t", "  inner: t", "  outer : all well, t",
    ]  # fmt: skip


def test_a_loop_that_fails_has_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(), pytest.raises(ZeroDivisionError):
        list(track((1 / number for number in (1, 0)), "dividing"))
    assert "dividing" not in capsys.readouterr().out


def test_a_terminal_sees_bars_that_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with shown():
        for _ in track(range(3), "[b]outer[/b]"):
            list(track([1], "inner"))
    seen = terminal.getvalue()
    assert "[b]outer[/b]" in seen
    assert "/3" in seen
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", seen).rstrip().splitlines()[-1]
    assert re.search(r"  \[b\]outer\[/b\]: \d\.\d s$", last)
