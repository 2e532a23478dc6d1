"""What can go wrong at a bad moment; each is called in the process that it is to hit."""

from __future__ import annotations

import errno
import io
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

__all__ = ["MOMENTS", "MORE_MOMENTS", "WRITES", "before_a_write", "no_space_left"]


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_batch(epoch: int, batch: int) -> None:
    from robustml.training import RobustClassifier

    step = RobustClassifier.training_step

    def training_step(self: RobustClassifier, images: Any, batch_idx: int) -> Any:
        if (self.current_epoch, batch_idx) == (epoch, batch):
            _die()
        return step(self, images, batch_idx)

    RobustClassifier.training_step = training_step  # type: ignore[method-assign]


def _in_file(name: str, epoch: int, act: Callable[[bytes, Any], None]) -> None:
    """Act in place of writing the checkpoint `name` of an epoch."""
    import torch

    save = torch.save

    def broken(checkpoint: Any, file: Any, **options: Any) -> None:
        if Path(file.name).name.startswith(f".{name}") and checkpoint["epoch"] == epoch:
            whole = io.BytesIO()
            save(checkpoint, whole)
            act(whole.getvalue(), file)
        save(checkpoint, file, **options)

    torch.save = broken


def _half_written(content: bytes, file: Any) -> None:
    file.write(content[: len(content) // 2])
    file.flush()
    os.fsync(file.fileno())
    _die()


def _before(module: str, name: str) -> None:
    import importlib

    setattr(importlib.import_module(module), name, lambda *_, **__: _die())


def before_the_first_checkpoint() -> None:
    _in_batch(0, 3)


def in_the_second_epoch() -> None:
    _in_batch(1, 2)


def in_the_last_epoch() -> None:
    _in_batch(3, 4)


def while_the_last_checkpoint_is_written() -> None:
    _in_file("last", 1, _half_written)


def while_the_best_checkpoint_is_written() -> None:
    _in_file("best", 3, _half_written)


def while_the_first_checkpoint_is_written() -> None:
    _in_file("", 0, _half_written)


def while_the_final_checkpoint_is_written() -> None:
    _in_file("last", 3, _half_written)


def in_the_final_evaluation() -> None:
    _before("robustml.workflows.training.completing", "evaluate_as_configured")


def before_the_results_are_written() -> None:
    _before("robustml.workflows.measuring.judging", "write_results")


def before_the_report_is_written() -> None:
    _before("robustml.workflows.measuring.judging", "write_report")


def while_the_table_is_written() -> None:
    replace, calls = Path.replace, iter(range(10))

    def dying(self: Path, target: Any) -> Path:
        if Path(target).name == "metrics.csv" and next(calls) == 2:
            _die()
        return replace(self, target)

    Path.replace = dying  # type: ignore[method-assign]


def before_a_write(number: int) -> None:
    """Die just before the file that is written as the `number`th (from 0) takes its place."""
    replace, writes = Path.replace, iter(range(number + 1))

    def replacing(self: Path, target: Any) -> Path:
        if next(writes) == number:
            _die()
        return replace(self, target)

    Path.replace = replacing  # type: ignore[method-assign,assignment]


WRITES = tuple(partial(before_a_write, number) for number in range(5))
MOMENTS = (
    before_the_first_checkpoint,
    while_the_best_checkpoint_is_written,
    while_the_last_checkpoint_is_written,
    in_the_final_evaluation,
)
MORE_MOMENTS = (
    in_the_second_epoch,
    before_the_results_are_written,
    while_the_first_checkpoint_is_written,
    while_the_table_is_written,
    in_the_last_epoch,
    while_the_final_checkpoint_is_written,
    before_the_report_is_written,
)


def no_space_left() -> None:
    """The disk is full when the last checkpoint of the second epoch is written."""

    def full(content: bytes, file: Any) -> None:
        file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    _in_file("last", 1, full)
