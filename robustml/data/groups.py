"""Groups of a set that count alike, however many rows each has: weights for a loss, or rows drawn again or left out.

Sagawa et al. 2020, "An Investigation of Why Overparameterization Exacerbates Spurious Correlations" (arXiv:2005.04345):
networks that learn their training set by heart gain little from weights or repeated rows, and more from leaving out.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

from robustml.data.records import Records
from robustml.errors import RequestError


def groups_of(y: Tensor, attribute: Tensor) -> Tensor:
    """One number (N,) for each pair of a label (N,) and an attribute (N,) >= 0, such as whether a mark is there.

    Raises:
        RequestError: the two are of different lengths.
    """
    if y.shape != attribute.shape:
        raise RequestError(f"expected one attribute a label {tuple(y.shape)}, got {tuple(attribute.shape)}")
    return y * (int(attribute.max()) + 1) + attribute.to(y.dtype) if len(y) else y


def group_weights(groups: Tensor) -> Tensor:
    """A weight (N,) a row, of mean 1, that gives every group the same total."""
    counts = groups.bincount()
    return len(groups) / (int((counts > 0).sum()) * counts[groups].float())


def resampled(
    data: Records, groups: Tensor, *, seed: int, size: Literal["largest", "smallest"] = "smallest"
) -> Records:
    """The set with all groups of one size.

    Args:
        data: the set.
        groups: (N,), which group each row belongs to; from `groups_of`.
        seed: which rows appear once more often than others of their group, or are left out.
        size: as small as the ``"smallest"`` group, rows of others left out; or as large as the ``"largest"``, rows of
            others appearing several times.

    Raises:
        RequestError: another size.
    """
    if size not in ("largest", "smallest"):
        raise RequestError(f"size={size!r} is unknown; expected largest or smallest")
    generator = Generator().manual_seed(seed)
    counts = groups.bincount()
    wanted = int(counts.max() if size == "largest" else counts[counts > 0].min())
    rows = []
    for group in (counts > 0).nonzero().squeeze(1).tolist():
        own = (groups == group).nonzero().squeeze(1)
        whole, rest = divmod(wanted, len(own))
        rows.append(torch.cat([own.repeat(whole), own[torch.randperm(len(own), generator=generator)[:rest]]]))
    return data.take(torch.cat(rows).sort().values)
