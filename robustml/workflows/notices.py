"""Lightning's notices about hardware and workers, kept out of the way of what is said of the run itself."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_notices"]


@contextmanager
def without_notices() -> Iterator[None]:
    """Silence them in the block; errors and our own warnings stay."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for module in ("pytorch_lightning", "lightning_fabric", "torch.distributed", "torchmetrics"):
            warnings.filterwarnings("ignore", module=module)
        # Lightning steps the schedule once after the optimizer's first step, in an order that torch cannot see.
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
