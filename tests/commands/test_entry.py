from __future__ import annotations

import pytest

from robustml.commands.entry import allow_arguments, argument, report_failures
from robustml.errors import RequestError, RunFailed


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("attack.params.c=1", "++attack.params.c=1"),
        ("evaluation.attacks.cw.params.steps=3,4", "++evaluation.attacks.cw.params.steps=3,4"),
        ("+attack.params.c=1", "+attack.params.c=1"),
        ("~attack.params.c", "~attack.params.c"),
        ("attack.params={c: 1}", "attack.params={c: 1}"),
        ("attack.steps=3", "attack.steps=3"),
        ("run=a.params.b=c", "run=a.params.b=c"),
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


def test_a_mistake_of_ours_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        report_failures(lambda: fail(ZeroDivisionError("ours")))
    assert exit_.value.code == 1
    assert "Traceback" in capsys.readouterr().err


def test_only_the_first_process_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(SystemExit):
        report_failures(lambda: fail(RequestError("said by the first")))
    assert capsys.readouterr().err == ""
