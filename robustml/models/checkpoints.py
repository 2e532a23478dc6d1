"""Load weights that others saved: state dicts under the usual nestings, prefixes and names.

The names are those of the public code behind RobustBench's checkpoints (Croce et al. 2021, arXiv:2010.09670): TRADES'
WideResNet and the (PreAct) ResNet of kuangliu/pytorch-cifar are named like ours; torchvision's differ in their shortcut
and last layer. A spelling is taken only if all weights then fit, names and shapes: nothing is loaded in part. What
names cannot tell (activation, `shortcut`, normalisation left out of the checkpoint) the config has to say.

DeepMind's WideResNet (Gowal 2020, Rebuffi 2021) is refused: its strided convolutions pad on one side only.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.scanning import reason

Weights = dict[str, Tensor]

_NESTINGS = ("state_dict", "model_state_dict", "model", "net", "ema")
# "1." is the network in a Sequential behind a normalisation layer.
_PREFIXES = ("module.", "model.", "_orig_mod.", "1.", "0.")
_RENAMED = (("downsample.", "shortcut."), ("shortcut.", "convShortcut."), ("fc.", "linear."), ("linear.", "fc."))
# TRADES' unused first block, and the copies of the network that MadryLab's attacker holds.
_UNUSED = re.compile(r"(.*\.)?(sub_block1|attacker)\..*")
_NORMALISATION = re.compile(r"(?:.*\.)?(?:new_)?(mean|mu|std|sigma)")
_OWN_NORMALISATION = {"normalize.mean", "normalize.std"}
_OPTIONAL = "num_batches_tracked"  # older than PyTorch 0.4.1, checkpoints lack it
_REFUSED_TYPE = re.compile(r"GLOBAL (\S+)")


def load_checkpoint(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint of others into `model`, all of it.

    Args:
        model: the architecture. Its own normalisation stays where the checkpoint holds none, and gives way to one.
        path: a state dict in a file of torch.save (``.pt``, ``.pth``, ``.ckpt``, ...) or ``.safetensors``.

    Raises:
        RequestError: the file is missing, damaged, not a state dict, would run code when loaded, is of another
            architecture (names the first difference), or holds a normalisation that `model` lacks.
    """
    path = Path(path)
    weights = read_weights(path)
    own = model.state_dict()
    spared = {key for key in own if key in _OWN_NORMALISATION or key.endswith(_OPTIONAL)}
    tried = []
    for spelling in _spellings(weights, own):
        fitting, normalisation = _sorted_out(spelling, own)
        tried.append(differences(fitting, own, spared))
        if not tried[-1]:
            model.load_state_dict(own | fitting | _own_normalisation(normalisation, own, path))
            return
    if any(key.endswith("init_conv.weight") for key in weights):
        raise RequestError(
            f"{path} is DeepMind's WideResNet (Gowal 2020), whose strided convolutions pad on one side: none of our "
            "architectures computes the same; bring its class, model=<your.module.Class>"
        )
    raise another_architecture(path, model, min(tried, key=len))


def differences(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], spared: Container[str] = ()) -> list[str]:
    """How a file's weights differ, in names and shapes, from a model's `own`, of which they may lack the `spared`."""
    missing = [f"{key} is missing" for key in own if key not in weights and key not in spared]
    extra = [f"{key} is extra" for key in weights if key not in own]
    shapes = [
        f"{key} is {tuple(value.shape)}, expected {tuple(own[key].shape)}"
        for key, value in weights.items()
        if key in own and value.shape != own[key].shape
    ]
    return missing + shapes + extra


def another_architecture(path: Path, model: nn.Module, found: Sequence[str]) -> RequestError:
    """The error of weights that do not fit a model, which names the first of the `differences`."""
    more = f" (and {len(found) - 1} more differences)" if len(found) > 1 else ""
    return RequestError(f"{path} holds another architecture than {type(model).__name__}: {found[0]}{more}")


def read_weights(path: str | Path) -> Weights:
    """The state dict in a file, on the CPU; nothing in the file is executed.

    Of several, the first of state_dict, model_state_dict, model, net and ema is taken.

    Raises:
        RequestError: the file is missing, damaged, holds no state dict, or would run code when loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise RequestError(f"there is no checkpoint {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the pickle's protocol, beside our own line
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        refused = _REFUSED_TYPE.search(str(error))
        what = reason(path) or (f"it holds a {refused[1]}" if refused else _reason(error))
        raise RequestError(
            f"{path} is refused, since loading it could run code: {what}. Where you trust it, save its state dict "
            "alone: torch.save(model.state_dict(), ...)"
        ) from error
    except Exception as error:
        raise RequestError(f"{path} cannot be read as a checkpoint: {_reason(error)}") from error
    return _state_dict(content, path)


def _state_dict(content: Any, path: Path) -> Weights:
    """The weights in what was loaded, wherever they are nested."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _NESTINGS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            weights = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
            if weights:
                return weights
            keys = ", ".join(map(str, list(content)[:5])) or "nothing"
            raise RequestError(f"{path} holds no state dict: expected tensors or {', '.join(_NESTINGS)}, got {keys}")
        content = inner
    raise RequestError(f"{path} holds no state dict, but a {type(content).__name__}")


def _spellings(weights: Weights, own: Mapping[str, Tensor]) -> Iterator[Weights]:
    """The weights as they are called, then with prefixes taken off as long as all of them carry one."""
    while True:
        yield weights
        yield _renamed(weights, own)
        named = [key for key in weights if not _is_beside(key)]
        prefix = next((prefix for prefix in _PREFIXES if all(key.startswith(prefix) for key in named)), None)
        if not named or prefix is None:
            return
        weights = {key.removeprefix(prefix): value for key, value in weights.items()}


def _is_beside(key: str) -> bool:
    """Whether a weight is, by its name, none of the network's: a normalisation, or a part that is never used."""
    return bool(_UNUSED.fullmatch(key) or _NORMALISATION.fullmatch(key))


def _renamed(weights: Weights, own: Mapping[str, Tensor]) -> Weights:
    """The weights under the names that `own` has for them, where it has another one."""
    renamed = dict(weights)
    for key in [key for key in weights if key not in own]:
        # a layer that stands alone in a Sequential elsewhere has a number there
        candidates = [key.replace(theirs + number, ours) for theirs, ours in _RENAMED for number in ("", "0.")]
        # where `timm_model` and `Wrapped` keep the network behind their normalisation
        for candidate in (*candidates, f"network.{key}", f"function.{key}"):
            if candidate in own and candidate not in renamed:
                renamed[candidate] = renamed.pop(key)
                break
    return renamed


def _sorted_out(weights: Weights, own: Mapping[str, Tensor]) -> tuple[Weights, Weights]:
    """The network's weights, and apart from them the normalisation (as "mean" and "std") that the file holds."""
    fitting: Weights = {}
    normalisation: Weights = {}
    for key, value in weights.items():
        if key in own and key not in _OWN_NORMALISATION:
            fitting[key] = value
        elif match := _NORMALISATION.fullmatch(key):
            normalisation["mean" if match[1] in ("mean", "mu") else "std"] = value.flatten()
        elif not _UNUSED.fullmatch(key):
            fitting[key] = value
    return fitting, normalisation


def _own_normalisation(found: Weights, own: Mapping[str, Tensor], path: Path) -> Weights:
    """The checkpoint's normalisation under our names; without a place for it, figures would be wrong without a sign."""
    fitting: Weights = {}
    for key, value in found.items():
        ours = own.get(f"normalize.{key}")
        if ours is None or ours.numel() != value.numel():
            values = {name: [round(number, 4) for number in other.tolist()] for name, other in found.items()}
            asked = " ".join(f"model.{name}={numbers}" for name, numbers in values.items()).replace(", ", ",")
            raise RequestError(
                f"{path} holds a normalisation the model lacks; add {asked} (adapter.mean=... for a class of yours)"
            )
        fitting[f"normalize.{key}"] = value.view_as(ours)
    return fitting


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
