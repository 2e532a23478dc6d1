"""What a set must be: its classes by name, and the shape of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from robustml.data.cache import Source, cached
from robustml.data.labels import are_numbers
from robustml.data.records import Records
from robustml.data.splits import Split
from robustml.errors import RequestError


@dataclass(frozen=True)
class Expected:
    """What the settings promise of a set; None takes what is there.

    Args:
        name: of the set, for messages.
        num_classes: how many classes it has. Classes that are mere numbers are 0 to `num_classes` - 1 then, be there a
            sample of each or not.
        class_names: its classes in label order.
        shape: of one input.
    """

    name: str
    num_classes: int | None = None
    class_names: tuple[str, ...] | None = None
    shape: tuple[int, ...] | None = None

    def load(self, source: Source, read: Callable[[Source, Split], Records] = cached) -> tuple[Records, Records]:
        """The training and the test part of a source, under the same labels.

        Args:
            source: the set.
            read: reads a part of it.

        Raises:
            RequestError: they cannot be loaded, are empty, or are not what is expected, or not alike.
        """
        train, test = _of_one_depth(read(source, "train").part("train"), read(source, "test").part("test"))
        names = self._names(train.class_names)
        train, test = self._checked("train", train, names), self._checked("test", test, names)
        if train.x.shape[1:] != test.x.shape[1:]:
            train_shape, test_shape = (tuple(records.x.shape[1:]) for records in (train, test))
            raise RequestError(
                f"{self.name}: expected one shape, got {train_shape} (train) and {test_shape} (test); set size"
            )
        return train, test

    def _names(self, found: tuple[str, ...]) -> tuple[str, ...]:
        """The classes in label order: those that are expected, else `found`, those of the training part."""
        expected, names = self.num_classes, self.class_names or found
        if expected is not None and names is found and len(found) < expected and are_numbers(found):
            numbers = tuple(str(number) for number in range(expected))
            names = numbers if set(found) <= set(numbers) else found
        if expected is not None and len(names) != expected:
            whose = "the train part has" if names is found else "data.class_names (or the run) names"
            raise RequestError(
                f"{self.name}: expected {expected} classes, {whose} {len(names)}; "
                "set data.num_classes, or null to take what is there"
            )
        return names

    def _checked(self, part: str, records: Records, names: tuple[str, ...]) -> Records:
        """A part as loaded, with the labels of `names`, once it is found to be what is expected."""
        if len(records) == 0:
            raise RequestError(f"{self.name}: the {part} part is empty; check the source's files")
        try:
            records = records.renamed(names)
        except RequestError as error:
            remedy = (
                "" if self.class_names is None else "; data.class_names=null takes the set's own classes, by number"
            )
            raise RequestError(f"{self.name}, {part} part: {error}{remedy}") from error
        shape = tuple(records.x.shape[1:])
        if self.shape is not None and self.shape != shape:
            raise RequestError(
                f"{self.name}: expected inputs of the shape {self.shape}, the {part} part has {shape}; "
                "set data.shape, or null to take what is there"
            )
        return records


def _of_one_depth(train: Records, test: Records) -> tuple[Records, Records]:
    """Both parts in colour where one of them is: a grey picture is one of three equal channels."""
    shapes = [part.x.shape[1:] for part in (train, test)]
    if any(len(shape) != 3 for shape in shapes) or {shape[0] for shape in shapes} != {1, 3}:
        return train, test
    note = "grey pictures got three equal channels, since the other part is in colour; data.source.channels=1 makes "

    def colour(part: Records) -> Records:
        if part.x.shape[1] == 3:
            return part
        x = part.x.expand(-1, 3, -1, -1).contiguous()
        return replace(part, x=x, understood=part.understood.noting(f"{note}both grey"))

    return colour(train), colour(test)
