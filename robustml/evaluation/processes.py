"""The processes that share an evaluation (`torch.distributed`): which one this is, and what all of them found."""

from __future__ import annotations

from typing import Any, TypeVar

from torch import distributed

Found = TypeVar("Found")


def rank_and_world_size() -> tuple[int, int]:
    """Which process this is, and of how many: 0 of 1 where there is no group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def gathered(found: Found) -> list[Found]:
    """What every process found, in the order of their ranks; the same in all of them."""
    world_size = rank_and_world_size()[1]
    if world_size == 1:
        return [found]
    everything: list[Any] = [None] * world_size
    distributed.all_gather_object(everything, found)
    return everything
