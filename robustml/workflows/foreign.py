"""A model that no run of ours trained: any class, function or callable, with a checkpoint of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.data import DataModule
from robustml.errors import RequestError
from robustml.models import as_module, load_checkpoint
from robustml.models.fitted import fitted
from robustml.modes import evaluating
from robustml.say import say
from robustml.workflows.building import build

__all__ = ["foreign_model"]


def foreign_model(settings: dict[str, Any], data: DataModule) -> nn.Module:
    """Build the model of the settings, load its checkpoint, and try it on one image.

    Args:
        settings: `model`, `checkpoint` and `adapter`.
        data: what it will be evaluated on.

    Raises:
        RequestError: it cannot be built, called or loaded, or does not turn the data's images into logits.
    """
    model = build(settings["model"])
    if not callable(model):
        raise RequestError(f"model= makes a {type(model).__name__}, which cannot be called with images")
    module = as_module(model, **settings["adapter"])
    if settings["checkpoint"] is None:
        say("no checkpoint: the model is evaluated as it is made")
    elif isinstance(model, nn.Module):
        load_checkpoint(module, Path(settings["checkpoint"]))
    else:
        raise RequestError(f"checkpoint= needs a torch.nn.Module, but model= makes a {type(model).__name__}")
    _try(module, data)
    return module.eval()


def _try(model: nn.Module, data: DataModule) -> None:
    """Refuse a model that does not give logits for the first image of the test split."""
    x, _ = next(iter(data.loader("test", limit=1)))
    device = next((parameter.device for parameter in model.parameters()), x.device)
    with evaluating(model), torch.no_grad():
        try:
            output = fitted(model, x.to(device))(x.to(device))
        except RequestError:
            raise
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise RequestError(f"the model cannot take an image of shape {tuple(x.shape)}: {reason}") from error
        if not isinstance(output, Tensor):
            raise RequestError(
                f"the model returned a {type(output).__name__}; say where its logits are with adapter.logits_key=..."
            )
        classes = logits_of(fitted(model, x.to(device)), x.to(device)).shape[1]
    if classes < data.num_classes:
        raise RequestError(f"the model tells {classes} classes apart, but {data.name} has {data.num_classes}")
