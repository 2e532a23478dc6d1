"""Checkpoints that are either the old one or the new one, whatever happens while they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from robustml.errors import RequestError
from robustml.files import replacing

__all__ = ["AtomicCheckpointIO", "best_and_last"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write as all our files are written: beside the target, then in its place.

    Lightning's own writer goes through a temporary folder on another file system and a copy, which a full disk can
    leave half done.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` at `path`.

        Raises:
            RequestError: no space is left, or the folder cannot be written; what stood at `path` still stands.
        """
        target = Path(path)
        try:
            with replacing(target) as file:
                torch.save(checkpoint, file)
        # torch's zip writer turns a full disk into a RuntimeError about its own state.
        except RuntimeError as error:
            cause = error.__cause__ or error.__context__ or error
            reason = (cause.strerror if isinstance(cause, OSError) else None) or str(error).splitlines()[0]
            kept = "the previous one is intact" if target.exists() else "there is no previous one"
            raise RequestError(
                f"cannot save the checkpoint {target}: {reason}; {kept}. Free some space, then continue with resume="
            ) from error


class BestAndLast(ModelCheckpoint):
    """Lightning's checkpoints with a last.ckpt after every epoch, in a folder that may be moved between runs.

    Lightning 2.6 writes the last checkpoint only in epochs whose figure is the best so far, and forgets which was the
    best where the folder has another name than when the run began.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save best.ckpt if this epoch is the best, then last.ckpt, which remembers that it was."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.monitor is not None:
            trainer.save_checkpoint(self._here("last.ckpt"))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best figure so far; its checkpoint is in this folder, wherever it was written."""
        moved = {key: self._here(path) for key, path in state_dict.items() if key.endswith("_model_path") and path}
        models = {self._here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict(state_dict | moved | {"best_k_models": models, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        # Lightning deletes what was the best, a whole folder where it is one: no checkpoint may choose what that is.
        if (name := Path(str(path)).name) not in ("best.ckpt", "last.ckpt"):
            raise RequestError(f"the checkpoint to resume from calls {name!r} its best: it is none of ours")
        return str(Path(str(self.dirpath), name))


def best_and_last(folder: Path, monitor: str | None) -> BestAndLast:
    """Keep best.ckpt, highest in `monitor`, and last.ckpt, both written at the end of an epoch.

    Args:
        folder: where they go.
        monitor: what to select on, for example `ADVERSARIAL_ACCURACY`; None keeps the last only (no validation split).
    """
    return BestAndLast(
        dirpath=folder,
        filename="best" if monitor else "last",
        monitor=monitor,
        mode="max",
        save_top_k=1,
        save_on_train_epoch_end=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
