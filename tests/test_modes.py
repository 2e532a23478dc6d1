from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.modes import attacking, evaluating, frozen

Context = Callable[[nn.Module], AbstractContextManager[None]]

CONTEXTS: dict[str, Context] = {
    "evaluating": evaluating,
    "frozen": frozen,
    "attacking train": lambda model: attacking(model, "train"),
    "attacking eval": lambda model: attacking(model, "eval"),
    "attacking batch_stats": lambda model: attacking(model, "batch_stats"),
}


@pytest.fixture
def mixed_model() -> nn.Module:
    """In training, but for a batch norm frozen in eval; one weight without a gradient; one norm without statistics."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.Dropout(0.5),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.BatchNorm2d(4, track_running_stats=False)),
        nn.Flatten(),
        nn.Linear(64, 3),
    )
    model[3][1].eval()
    model[0].weight.requires_grad_(False)
    return model


def state(model: nn.Module) -> dict[str, Any]:
    return {
        "training": [module.training for module in model.modules()],
        "tracking": [getattr(module, "track_running_stats", None) for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
    }


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_a_mixed_model_comes_back_as_it_was(context: Context, mixed_model: nn.Module) -> None:
    before = state(mixed_model)
    with context(mixed_model):
        mixed_model(torch.rand(4, 1, 6, 6))
    assert state(mixed_model) == before
    assert not mixed_model[3][1].training
    assert mixed_model[1].training


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_an_exception_does_not_change_that(context: Context, mixed_model: nn.Module) -> None:
    before = state(mixed_model)
    with pytest.raises(ZeroDivisionError), context(mixed_model):
        raise ZeroDivisionError
    assert state(mixed_model) == before


def test_contexts_nest(mixed_model: nn.Module) -> None:
    before = state(mixed_model)
    with frozen(mixed_model), attacking(mixed_model, "batch_stats"), evaluating(mixed_model), frozen(mixed_model):
        assert not any(module.training for module in mixed_model.modules())
    assert state(mixed_model) == before


def test_evaluating_puts_every_submodule_in_eval(mixed_model: nn.Module) -> None:
    with evaluating(mixed_model):
        assert not any(module.training for module in mixed_model.modules())
        assert torch.equal(mixed_model(torch.ones(2, 1, 6, 6)), mixed_model(torch.ones(2, 1, 6, 6)))


def test_frozen_switches_off_parameters_only(mixed_model: nn.Module) -> None:
    before = state(mixed_model)["training"]
    with frozen(mixed_model):
        assert not any(parameter.requires_grad for parameter in mixed_model.parameters())
        assert state(mixed_model)["training"] == before
    assert [name for name, parameter in mixed_model.named_parameters() if not parameter.requires_grad] == ["0.weight"]


def statistics(norm: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in norm.buffers()]


def test_batch_stats_uses_the_batch_and_leaves_the_running_statistics(mixed_model: nn.Module) -> None:
    x = torch.rand(8, 1, 6, 6) * 5 + 2
    before = deepcopy(mixed_model.state_dict())
    seen: list[tuple[Tensor, Tensor]] = []
    hook = mixed_model[1].register_forward_hook(lambda module, arguments, output: seen.append((arguments[0], output)))
    with attacking(mixed_model, "batch_stats"):
        first, second = mixed_model(x), mixed_model(x)
    hook.remove()
    assert torch.equal(first, second), "dropout was on"
    inputs, output = seen[0]
    mean = inputs.mean(dim=(0, 2, 3), keepdim=True)
    variance = inputs.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
    torch.testing.assert_close(output, (inputs - mean) / (variance + 1e-5).sqrt(), atol=1e-5, rtol=1e-5)
    after = mixed_model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_eval_mode_uses_the_running_statistics(mixed_model: nn.Module) -> None:
    mixed_model[1].running_mean.fill_(7.0)
    mixed_model[1].running_var.fill_(4.0)
    seen: list[tuple[Tensor, Tensor]] = []
    mixed_model[1].register_forward_hook(lambda module, arguments, output: seen.append((arguments[0], output)))
    with attacking(mixed_model, "eval"):
        mixed_model(torch.rand(8, 1, 6, 6))
    inputs, output = seen[0]
    torch.testing.assert_close(output, (inputs - 7) / 2, atol=1e-4, rtol=1e-4)


def test_train_mode_moves_running_statistics_of_the_layers_in_training_only(mixed_model: nn.Module) -> None:
    moving, held = statistics(mixed_model[1]), statistics(mixed_model[3][1])
    with attacking(mixed_model, "train"):
        mixed_model(torch.rand(8, 1, 6, 6) + 3)
    assert not torch.equal(mixed_model[1].running_mean, moving[0])
    assert mixed_model[1].num_batches_tracked == 1
    assert all(torch.equal(a, b) for a, b in zip(statistics(mixed_model[3][1]), held, strict=True))


@pytest.mark.parametrize("mode", ["evall", "", None, "batch-stats"])
def test_an_unknown_mode_is_refused_by_name(mode: Any, linear_model: nn.Module) -> None:
    with pytest.raises(RequestError, match="attack_mode"), attacking(linear_model, mode):
        pytest.fail("the body must not run")
