"""Numbers that belong to an example: of its bytes alone, in every precision."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from robustml.draws import Draws


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6, 3, 4, 4), (6, 5), (6,)])
def test_a_batch_draws_what_its_examples_draw(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape, generator=seeded(1)).to(dtype)
    whole = Draws.of(x, seeded()).uniform(7)
    alone = torch.cat([Draws.of(row, seeded()).uniform(7) for row in x.split(1)])
    assert torch.equal(whole, alone)
    assert len(whole.unique(dim=0)) == 6
    assert not torch.equal(whole, Draws.of(x, seeded(2)).uniform(7))


def test_the_numbers_are_those_of_earlier_releases() -> None:
    x = torch.arange(6.0).view(2, 3) / 8
    assert Draws.of(x, seeded()).uniform(2).tolist() == [
        [0.29131078720092773, 0.027127623558044434],
        [0.8705740571022034, 0.6024351119995117],
    ]
    last = x.view(1, 2, 1, 3).to(memory_format=torch.channels_last)
    assert torch.equal(Draws.of(last, seeded()).uniform(4), Draws.of(last.contiguous(), seeded()).uniform(4))


def test_poisson_numbers_have_their_means() -> None:
    expected = torch.tensor([[0.0, 3.0], [50.0, 3.0]]).repeat_interleave(500, dim=1)
    found = Draws.of(torch.rand(2, 3, generator=seeded(4)), seeded()).poisson(expected)
    assert torch.equal(found[0, :500], torch.zeros(500))
    assert found[1, :500].mean().item() == pytest.approx(50, abs=1.5)
    assert not torch.equal(found[0, 500:], found[1, 500:])
