from __future__ import annotations

import re

import pytest

from robustml.commands.ending.failures import report_failures
from robustml.commands.hydra.words import allow_arguments, argument
from robustml.errors import RequestError, RunFailed


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("attack.params.c=1", "++attack.params.c=1"),
        ("data.class_names=[b,a]", "++data.class_names=[b,a]"),
        ("evaluation.attacks.cw.params.steps=3,4", "++evaluation.attacks.cw.params.steps=3,4"),
        ("+attack.params.c=1", "+attack.params.c=1"),
        ("~attack.params.c", "~attack.params.c"),
        ("attack.params={c: 1}", "attack.params={c: 1}"),
        ("attack.steps=3", "attack.steps=3"),
        ("run=a.params.b=c", "run='a.params.b=c'"),
    ],
)
def test_arguments_of_torchattacks_need_no_plus(word: str, expected: str) -> None:
    assert allow_arguments(["-m", word]) == ["-m", expected]


def test_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["robustml", "-m", "run=a=b", "running=c"])
    assert argument("run") == "a=b"
    assert argument("resume") is None


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RequestError("wrong\n  request"), 2, "error: wrong request\n"),
        (RunFailed("the loss became nan"), 1, "error: the loss became nan\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
    ],
)
def test_failures_are_one_line_and_a_status(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        report_failures(lambda: fail(error))
    assert (exit_.value.code, capsys.readouterr().err) == (status, line)


def test_a_request_error_is_found_inside_what_wraps_it(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        try:
            fail(RequestError("inside"))
        except RequestError as error:
            raise RuntimeError("outside") from error

    with pytest.raises(SystemExit) as exit_:
        report_failures(main)
    assert (exit_.value.code, capsys.readouterr().err) == (2, "error: inside\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ZeroDivisionError("division by zero"),
            r"ZeroDivisionError: division by zero \(test_entry.py:\d+\); ROBUSTML_",
        ),
        (ZeroDivisionError(), r"ZeroDivisionError \(test_entry.py:\d+\)"),
        (OSError(28, "No space left on device", "a/b.txt"), r"No space left on device: a/b\.txt$"),
        (PermissionError(13, "Permission denied"), r"Permission denied$"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), r"UnicodeDecodeError: 'utf-8' codec"),
        (MemoryError(), "there is not enough memory: smaller batches"),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum"),
    ],
)
def test_what_nobody_foresaw_is_one_line_too(
    error: Exception, line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as exit_:
        report_failures(lambda: fail(error))
    said = capsys.readouterr().err
    assert exit_.value.code == 1
    assert said.count("\n") == 1
    assert re.match("error: " + line, said)
    monkeypatch.setenv("ROBUSTML_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        report_failures(lambda: fail(error))
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit):
        report_failures(lambda: fail(RequestError("said by the first")))
    assert capsys.readouterr().err == ""
