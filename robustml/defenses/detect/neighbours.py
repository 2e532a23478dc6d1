"""The nearest others of each record, and what a record is looked at by."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Generator, Tensor, nn

from robustml.defenses.reading import read_features
from robustml.errors import RequestError, nearest
from robustml.poisoning.pixels import in_unit_range
from robustml.progress import track
from robustml.types import Labelled

View = Literal["inputs", "features"]
# Wider rows are projected to this width to find the nearest, and measured as they are.
_WIDTH = 256
_ROWS = 500


def check_view(view: str) -> None:
    """Refuse what is neither inputs nor features."""
    if view not in get_args(View):
        raise RequestError(f"view={view!r} is unknown; {nearest(str(view), get_args(View))}")


def viewed(model: nn.Module, records: Labelled, view: View, layer: str | None) -> Tensor:
    """Rows (N, D), float64 on the CPU: the inputs in [0, 1], or the model's features of a layer."""
    if view == "features":
        return read_features(model, records.x, layer).double()
    return in_unit_range(records.x).flatten(1).cpu().double()


def nearest_distances(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The Euclidean distances (N, count) of rows (N, D) to their nearest others, ascending, and which these are.

    Where rows are wide, the nearest are those of a random projection (Johnson and Lindenstrauss 1984): equal rows stay
    equal and near ones near; their distances are then measured in the rows themselves.

    Raises:
        RequestError: there are not so many others.
    """
    if len(rows) <= count:
        raise RequestError(f"{count} nearest others need at least {count + 1} records, and there are {len(rows)}")
    narrow = (rows - rows.mean(dim=0)).float()
    if rows.shape[1] > _WIDTH:
        narrow @= torch.randn(rows.shape[1], _WIDTH, generator=Generator().manual_seed(0))
    squares = narrow.square().sum(dim=1)
    distances, which = [], []
    for own in track(torch.split(torch.arange(len(rows)), _ROWS), "nearest records"):
        apart = squares - 2 * narrow[own] @ narrow.T
        apart[torch.arange(len(own)), own] = torch.inf
        others = apart.topk(count, largest=False).indices
        distance = torch.stack([(rows[own] - rows[other]).norm(dim=1) for other in others.T], dim=1)
        distance, order = distance.sort(dim=1)
        distances.append(distance)
        which.append(others.gather(1, order))
    return torch.cat(distances), torch.cat(which)
