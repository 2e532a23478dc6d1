"""Keep Lightning's notices out of the way of what the command itself says."""

from __future__ import annotations

import logging
import warnings

__all__ = ["quiet"]


def quiet() -> None:
    """Silence notices about hardware and workers; errors and our own warnings stay."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("pytorch_lightning", "lightning_fabric", "torch.distributed", "torchmetrics"):
        warnings.filterwarnings("ignore", module=module)
    # Lightning steps the schedule once after the optimizer's first step, in an order that torch cannot see.
    warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
