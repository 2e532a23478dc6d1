"""Data of the user's own: any data set or loader of torch's, as the parts that a training and an evaluation work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from robustml.data import DataModule, Records
from robustml.data.loader import ALONE, Place
from robustml.data.splits import Split, part_of
from robustml.errors import RequestError
from robustml.evaluation.batches import Batches, Loader
from robustml.results import DataFacts
from robustml.workflows.integrity.guarding import guarded


def records_of(data: Loader, class_names: Sequence[str] | None = None) -> Records:
    """What a data set or loader holds, read once.

    Args:
        data: images (N, ...) in [0, 1] and integer labels, in any form that an evaluation understands.
        class_names: one a class, in label order; "0", "1", ... by default.

    Raises:
        RequestError: it is empty, or gives something else.
    """
    batches = [(batch.x.float(), batch.y) for batch in Batches(data, torch.device("cpu"))]
    if not batches:
        raise RequestError("the data hold no sample")
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    names = tuple(class_names or map(str, range(int(y.max()) + 1)))
    return Records(x, y, names)


@dataclass(frozen=True, eq=False)
class Given:
    """A source that has the records already; where no test part was given, a fifth of the records is one."""

    records: Records
    test: Records | None

    def load(self, split: Split) -> Records:
        """The training or the test part."""
        if self.test is None:
            return self.records.take(part_of(self.records.y, split))
        return self.test if split == "test" else self.records


class GivenData(DataModule):
    """The user's own data; training batches come from his loader where he has one, so that its augmentation counts."""

    own_loader: Any = None

    def train_dataloader(self, place: Place = ALONE, epochs: int | None = None) -> Any:
        """The user's loader, or shuffled batches of the records."""
        return super().train_dataloader(place, epochs) if self.own_loader is None else self.own_loader


def judged_on(data: Loader, class_names: Sequence[str] | None = None) -> DataModule:
    """Data that nothing is trained on: a test part alone."""
    records = records_of(data, class_names)
    return _set_up(GivenData(Given(records.take(torch.arange(1)), records), name=_name(data), val_size=0))


def judged_facts(data: Loader, count: int) -> DataFacts:
    """What results.json says of data that were not read as a whole, of `count` examples."""
    return DataFacts(name=_name(data), test=count)


def data_of(
    data: DataModule | Loader,
    test: Loader | None = None,
    *,
    class_names: Sequence[str] | None = None,
    **options: Any,
) -> DataModule:
    """A DataModule, set up, of whatever somebody has.

    Args:
        data: what to train on: a DataModule, which is taken as it is; a data set, which is read into memory once; or a
            DataLoader, whose own batches then are trained on, so that nothing is held out of it for validation.
        test: what to evaluate on; a fifth of the data, drawn with every class in proportion, by default.
        class_names: one a class, in label order.
        options: further arguments of `DataModule`.

    Raises:
        RequestError: something cannot be read; or a loader, of whose batches no test part can be taken, has no `test`.
    """
    if isinstance(data, DataModule):
        guarded(data).setup()
        return data
    loader = data if isinstance(data, DataLoader) else None
    if loader is not None and test is None:
        raise RequestError("a DataLoader needs a test set beside it: test=..., or give its data set instead")
    records = records_of(data, class_names)
    other = None if test is None else records_of(test, records.class_names)
    if loader is not None:
        options |= {"batch_size": loader.batch_size or 1, "val_size": 0}
    found = GivenData(Given(records, other), name=_name(data), **options)
    found.own_loader = loader
    return _set_up(found)


def _name(data: Any) -> str:
    return "tensors" if isinstance(data, tuple) else type(getattr(data, "dataset", data)).__name__


def _set_up(data: DataModule) -> DataModule:
    guarded(data).setup()
    return data
