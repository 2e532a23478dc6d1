"""A model as it was found: what somebody did to it is seen, named and undone.

An attack that leaves the model in training mode, or moves its buffers, lets all that follows be measured on another
model. A mode can be read; a weight that was written through `.data` can be found by its value alone, so values are
compared: one pass over the parameters, next to the many passes through the model that an attack makes.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Guard:
    """Remembers a model: modes, parameters, buffers, gradients, submodules and hooks.

    Args:
        model: as it shall stay.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
        # A scripted module keeps its tables in C++, where nobody changes them in passing.
        plain = [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]
        self._tables = [(module, name, dict(table)) for module in plain for name, table in _tables(module).items()]
        self._forwards = [(module, vars(module).get("forward")) for module in plain]
        self._parameters = [
            (each, each.requires_grad, each.grad, None if each.grad is None else each.grad.clone())
            for each in model.parameters()
        ]
        named = (*model.named_parameters(), *model.named_buffers())
        self._values: list[tuple[str, Tensor, Tensor]] = [(name, each, each.detach().clone()) for name, each in named]

    def changes(self) -> list[str]:
        """What differs from how the model was found, in words."""
        said = []
        if any(module.training != training for module, training in self._modes):
            said.append("its mode (train or eval)")
        replaced = {name for module, name, table in self._tables if _differs(vars(module)[name], table)}
        if any("hook" not in name for name in replaced):
            said.append("its submodules or parameters, which are other objects now")
        if any("hook" in name for name in replaced):
            said.append("its hooks")
        if any(vars(module).get("forward") is not forward for module, forward in self._forwards):
            said.append("its forward")
        moved = [name for name, tensor, kept in self._values if not _same(tensor, kept)]
        said += [f"the values of {_listed(moved)}"] if moved else []
        if any(parameter.requires_grad != wanted for parameter, wanted, *_ in self._parameters):
            said.append("requires_grad of its parameters")
        if any(not _same_gradient(parameter, *kept) for parameter, _, *kept in self._parameters):
            said.append(".grad of its parameters")
        return said

    def restore(self) -> None:
        """Put everything back."""
        for module, name, table in self._tables:
            present = vars(module)[name]
            if _differs(present, table):
                present.clear()
                present.update(table)
        for module, forward in self._forwards:
            if vars(module).get("forward") is not forward:
                vars(module).pop("forward", None)
                if forward is not None:
                    vars(module)["forward"] = forward
        for module, training in self._modes:
            if module.training != training:
                module.training = training
        for _, tensor, kept in self._values:
            if not _same(tensor, kept):
                tensor.data = kept.clone()
        for parameter, wanted, gradient, value in self._parameters:
            if parameter.requires_grad != wanted:
                parameter.requires_grad_(wanted)
            if not _same_gradient(parameter, gradient, value):
                parameter.grad = gradient
                if gradient is not None and value is not None:
                    gradient.data = value.clone()


class RandomState:
    """The global generators of torch, NumPy and Python as they are now; `device` adds that of a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._state = self._read()

    def moved(self) -> list[str]:
        """Which of them were drawn from or seeded since: "torch", "numpy", "random"."""
        now, before = self._read(), self._state
        same = {
            "torch": all(torch.equal(a, b) for a, b in zip(now[0], before[0], strict=True)),
            "numpy": now[1]["state"]["pos"] == before[1]["state"]["pos"]
            and np.array_equal(now[1]["state"]["key"], before[1]["state"]["key"]),
            "random": now[2] == before[2],
        }
        return [name for name, unmoved in same.items() if not unmoved]

    def restore(self) -> None:
        """Put them back."""
        tensors, numpy_state, python_state = self._state
        torch.set_rng_state(tensors[0])
        if len(tensors) > 1:
            torch.cuda.set_rng_state(tensors[1], self._device)
        np.random.set_state(numpy_state)  # noqa: NPY002  (the global state is what is put back)
        random.setstate(python_state)

    def _read(self) -> tuple[list[Tensor], dict[str, Any], Any]:
        tensors = [torch.get_rng_state()]
        if self._device.type == "cuda":
            tensors.append(torch.cuda.get_rng_state(self._device))
        return tensors, np.random.get_state(legacy=False), random.getstate()  # noqa: NPY002


def _tables(module: nn.Module) -> dict[str, dict[Any, Any]]:
    """The dictionaries of a module that say what it is made of and what is called with it."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, dict) and (name in ("_parameters", "_buffers", "_modules") or "_hooks" in name)
    }


def _differs(present: dict[Any, Any], table: dict[Any, Any]) -> bool:
    """Whether two tables hold other objects; tensors must not be compared by value here."""
    return list(present) != list(table) or any(present[key] is not table[key] for key in table)


def _same_gradient(parameter: nn.Parameter, gradient: Tensor | None, value: Tensor | None) -> bool:
    """Whether .grad is the tensor that it was, and holds what it held."""
    return parameter.grad is gradient and (gradient is None or value is None or _same(gradient, value))


def _same(tensor: Tensor, kept: Tensor) -> bool:
    if tensor.dtype != kept.dtype or tensor.device != kept.device or tensor.shape != kept.shape:
        return False
    now = tensor.detach()
    # The second look is for a NaN that was there before.
    return torch.equal(now, kept) or bool((now.eq(kept) | (now.ne(now) & kept.ne(kept))).all())


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
