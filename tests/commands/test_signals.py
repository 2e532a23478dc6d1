from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robustml.commands.ending.failures import report_failures
from robustml.commands.ending.signals import Stopped, _received, command_for, stop_now, stoppable, way_to_go_on

BOTH = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")]


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """Whoever runs the tests in the background of a shell has SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def leave(number: int) -> None:
    signal.raise_signal(number)


def as_lightning(number: int) -> None:
    """Make a SystemExit with another status of it."""
    try:
        signal.raise_signal(number)
    except BaseException:
        sys.exit(1)


def swallow(number: int) -> None:
    """End in good order and return, as an evaluation does after Ctrl-C."""
    try:
        signal.raise_signal(number)
    except BaseException:
        return


@pytest.mark.parametrize(("number", "status", "word"), BOTH)
@pytest.mark.parametrize("act", [leave, as_lightning, swallow])
def test_every_verb_ends_in_one_line_and_with_128_and_the_signal(
    number: int, status: int, word: str, act: Callable[[int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)]

    def verb() -> None:
        with way_to_go_on(lambda: "go on with: robustml train resume=here"):
            act(number)

    with pytest.raises(SystemExit) as exit_:
        report_failures(verb)
    assert exit_.value.code == status
    assert capsys.readouterr().err == f"error: {word}; go on with: robustml train resume=here\n"
    assert [signal.getsignal(known) for known in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_forked_process_dies_of_the_signal_and_says_nothing() -> None:
    with stoppable():
        child = os.fork()
        if not child:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGTERM
        stop_now()


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stoppable():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_exits_keep_their_status() -> None:
    with pytest.raises(SystemExit) as exit_:
        report_failures(lambda: sys.exit(3))
    assert exit_.value.code == 3


def test_a_second_signal_finds_no_handler() -> None:
    with stoppable():
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) == signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        _received.clear()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checkpoints/last.ckpt", "robustml train 'resume={}'"),
        ("verdicts.jsonl", "robustml evaluate 'resume={}'"),
        ("config.yaml", "give the same command again"),
    ],
)
def test_how_to_go_on_is_read_off_the_folder(name: str, said: str, tmp_path: Path) -> None:
    folder = tmp_path / "a run (1)"
    (folder / name).parent.mkdir(parents=True)
    (folder / name).touch()
    assert command_for(folder).endswith(said.format(folder))
