"""Weights: read without running anything, held against the model that they are for, and written whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.files import replacing, sha256
from robustml.models.checkpoints import another_architecture, differences, read_weights
from robustml.results import ModelFacts
from robustml.workflows.settings.building import plain_target


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Load weights that must fit exactly.

    Raises:
        RequestError: they belong to another architecture; names the first difference.
    """
    check_weights(model, weights, path)
    model.load_state_dict(weights)


def check_weights(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Refuse weights that do not fit exactly.

    Raises:
        RequestError: see `load_weights`.
    """
    for key, value in weights.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
            raise RequestError(f"{path} is damaged: {key} is no tensor of numbers")
    if found := differences(weights, model.state_dict()):
        raise another_architecture(path, model, found)


def checkpoint_weights(path: Path) -> dict[str, Tensor]:
    """The model's weights out of a Lightning checkpoint of `RobustClassifier`.

    Raises:
        RequestError: the file is missing, cannot be read, or is none of ours.
    """
    prefix = "model."
    return {key.removeprefix(prefix): value for key, value in read_weights(path).items() if key.startswith(prefix)}


def save_weights(model: nn.Module, path: Path, root: str | None = None) -> None:
    """Write the weights as safetensors, whole or not at all, with the Merkle root of the data where one vouches."""
    # Tied weights share memory, which safetensors refuses.
    weights = {key: value.detach().cpu().contiguous().clone() for key, value in model.state_dict().items()}
    with replacing(path) as file:
        file.write(save(weights, None if root is None else {"data_root": root}))


def describe_model(
    settings: Mapping[str, Any], model: nn.Module, weights: Path | None, origin: Path | None = None
) -> ModelFacts:
    """The model as results.json names it; of one that came from no file, the name alone.

    Args:
        settings: of the model.
        model: the model.
        weights: the file that holds it.
        origin: the file of the weights that it began from, where it did.
    """
    name = plain_target(settings)
    if weights is None:
        return ModelFacts(name=name)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    began = None if origin is None else sha256(origin)
    return ModelFacts(name=name, parameters=parameters, sha256=sha256(weights), origin_sha256=began)
