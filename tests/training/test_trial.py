"""A model that cannot be trained is refused before anything begins, in one line that names shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustml.errors import RequestError
from robustml.models import Wrapped
from robustml.training import try_model


class Ends(nn.Module):
    """A linear network for 3x8x8 images whose forward ends with `change`, and begins with `begin`."""

    def __init__(self, change: Callable[[Tensor], Any], begin: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        super().__init__()
        self.layer, self.change, self.begin = nn.Linear(192, 10), change, begin

    def forward(self, x: Tensor) -> Any:
        return self.change(self.layer(self.begin(x).flatten(1)))


def frozen() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).requires_grad_(False)


def no_grad(module: nn.Module) -> None:
    module.forward = torch.no_grad()(module.forward)


def jit_frozen() -> nn.Module:
    return torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)).eval()))


def convolutions(channels: int, size: int = 3) -> nn.Module:
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)]
    return nn.Sequential(nn.Conv2d(channels, 4, size), nn.ReLU(), *head)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "too small for the images": (lambda: convolutions(3, 11), "cannot take images of shape 3x8x8 (a batch is (2, 3, 8"),
    "other channels": (lambda: convolutions(1), "cannot take images of shape 3x8x8"),
    "other size": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), "cannot take images of shape 3x8x8"),
    "fewer outputs": (lambda: Ends(lambda logits: logits[:, :4]), "tells 4 classes apart, and the data have 10"),
    "one logit": (lambda: Ends(lambda logits: logits[:, :1]), "one logit an image, shape (2, 1)"),
    "no axis of classes": (lambda: Ends(lambda logits: logits[:, 0]), "shape (2,) for images of shape (2, 3, 8, 8)"),
    "maps": (lambda: nn.Conv2d(3, 10, 3), "shape (2, 10, 6, 6) for images of shape (2, 3, 8, 8)"),
    "classes": (lambda: Ends(lambda logits: logits.argmax(1)), "shape (2,)"),
    "tuple": (lambda: Ends(lambda logits: (logits, logits)), "returned a tuple; expected a tensor of logits (N, 10)"),
    "dict": (lambda: Ends(lambda logits: {"logits": logits}), "model.logits_key"),
    "no_grad": (lambda: Ends(lambda logits: logits, lambda x: x).apply(no_grad), "no gradient, so that it cannot"),
    "detached": (lambda: Ends(Tensor.detach), "no gradient, so that it cannot"),
    "in place": (lambda: Ends(lambda logits: logits, lambda x: x.sub_(0.5)), "changes its input in place"),
    "in place without effect": (lambda: nn.Sequential(nn.ReLU(inplace=True), convolutions(3)), "inplace=False"),
    "frozen": (frozen, "no parameter that requires a gradient"),
    "jit-frozen": (jit_frozen, "no parameter that requires a gradient"),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize(("make", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_is_refused_in_one_line(make: Callable[[], nn.Module], said: str) -> None:
    with pytest.raises(RequestError) as caught:
        try_model(make(), torch.rand(2, 3, 8, 8), 10)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrapper_picks_the_logits() -> None:
    try_model(Wrapped(Ends(lambda logits: (0, logits)), logits_key=1), torch.rand(2, 3, 8, 8), 10)
    try_model(Wrapped(Ends(lambda logits: {"logits": logits}), logits_key="logits"), torch.rand(2, 3, 8, 8), 10)


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 10))


def test_a_last_batch_of_one_is_refused_where_it_cannot_be_normalised() -> None:
    x = torch.rand(2, 3, 8, 8)
    try_model(with_batch_norm(), x, 10)
    try_model(convolutions(3), x, 10, smallest=1)
    with pytest.raises(RequestError, match=r"has one image .*data\.drop_last=true"):
        try_model(with_batch_norm(), x, 10, smallest=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_model_is_left_as_it_was_found(dtype: torch.dtype) -> None:
    model = with_batch_norm().to(dtype)
    model[2].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    buffers = {name: id(buffer) for name, buffer in model.named_buffers()}
    state = torch.get_rng_state()
    try_model(model, torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), 7)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert {name: id(buffer) for name, buffer in model.named_buffers()} == buffers
    assert [layer.training for layer in model] == [True, True, False, True, True]
