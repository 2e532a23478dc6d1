"""Checkpoints that are either the old one or the new one, whatever happens while they are written."""

from __future__ import annotations

import warnings
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from robustml.errors import RequestError, RunFailed
from robustml.files import replacing
from robustml.scanning import reason
from robustml.training.classifier import ADVERSARIAL_ACCURACY, CLEAN_ACCURACY

# What a training that goes on needs of a checkpoint.
_NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch", "global_step")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write as all our files are written: beside the target, then in its place.

    Lightning's own writer goes through a temporary folder on another file system and a copy, which a full disk can
    leave half done.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Save `checkpoint` at `path`.

        Raises:
            RunFailed: no space is left, or the folder cannot be written; what stood at `path` still stands.
        """
        target = Path(path)
        try:
            with replacing(target) as file:
                torch.save(checkpoint, file)
        except RunFailed as error:
            raise RunFailed(f"{error}. Free some space, then continue with resume=") from error
        except RuntimeError as error:
            # torch's zip writer turns a full disk into an error about its own state.
            kept = "what stood there is intact" if target.exists() else "nothing was left there"
            cause = error.__cause__ or error.__context__
            reason = (cause.strerror if isinstance(cause, OSError) else None) or str(error).splitlines()[0]
            raise RunFailed(
                f"cannot write {target}: {reason}; {kept}. Free some space, then continue with resume="
            ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of a training, on the CPU; nothing in it is executed.

    Raises:
        RequestError: it is absent, empty or damaged, or no checkpoint of a training.
    """
    if not path.is_file():
        raise RequestError(f"there is no checkpoint {path}")
    if not path.stat().st_size:
        raise RequestError(f"{path} is empty: whatever wrote it was interrupted, or the disk was full")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol, beside our own line
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        missing = [key for key in _NEEDED if key not in checkpoint]
    except Exception as error:
        if isinstance(error, UnpicklingError) and (what := reason(path)):
            raise RequestError(f"{path} is refused, since loading it could run code: {what}") from error
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{path} is damaged, it cannot be read as a checkpoint: {why}") from error
    if missing:
        raise RequestError(f"{path} is no checkpoint of a training: it lacks {', '.join(missing)}")
    return dict(checkpoint)


def measured_on(checkpoint: dict[str, Any]) -> dict[str, float] | None:
    """What the validation split last said before a checkpoint was written; of best.ckpt, of the weights in it.

    Returns:
        `epoch` (from 1) and `step`, and the figures by their names; None where there was no validation, or the
        checkpoint is of a version that did not note it.
    """
    for key, state in checkpoint["callbacks"].items():
        if str(key).startswith(BestAndLast.__name__):
            return state.get("measured")  # type: ignore[no-any-return]
    return None


class BestAndLast(ModelCheckpoint):
    """Lightning's checkpoints with a last.ckpt after every epoch, in a folder that may be moved between runs.

    best.ckpt is written right after the validation that it is chosen on, so that it holds the weights which that
    validation measured, in the middle of an epoch too. Lightning 2.6 would wait for the epoch's end, writes the last
    checkpoint only in epochs whose figure is the best so far, and forgets which was the best where the folder has
    another name than when the run began.
    """

    measured: dict[str, float] | None = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save best.ckpt if these weights are the best so far, together with what was measured on them."""
        if self.monitor is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        names = ("val/loss", CLEAN_ACCURACY, ADVERSARIAL_ACCURACY)
        known = {name: float(trainer.callback_metrics[name]) for name in names if name in trainer.callback_metrics}
        self.measured = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, **known}
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save last.ckpt, which remembers what was the best."""
        super().on_train_epoch_end(trainer, pl_module)
        if self.monitor is not None:
            trainer.save_checkpoint(self._here("last.ckpt"))

    def state_dict(self) -> dict[str, Any]:
        """Lightning's, and what was measured last."""
        return super().state_dict() | {"measured": self.measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best figure so far; its checkpoint is in this folder, wherever it was written."""
        moved = {key: self._here(path) for key, path in state_dict.items() if key.endswith("_model_path") and path}
        models = {self._here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict(state_dict | moved | {"best_k_models": models, "dirpath": self.dirpath})
        self.measured = state_dict.get("measured")

    def _here(self, path: str) -> str:
        # Lightning deletes what was the best, a whole folder where it is one: no checkpoint may choose what that is.
        if (name := Path(str(path)).name) not in ("best.ckpt", "last.ckpt"):
            raise RequestError(f"the checkpoint to resume from calls {name!r} its best: it is none of ours")
        return str(Path(str(self.dirpath), name))


def best_and_last(folder: Path, monitor: str | None) -> BestAndLast:
    """Keep best.ckpt, highest in `monitor`, written after a validation, and last.ckpt, at the end of an epoch.

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
        save_on_train_epoch_end=monitor is None,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
