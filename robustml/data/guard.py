"""Who stands between a set and whoever uses it: what a `DataModule` asks before it believes its files."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from robustml.data.cache import Source
from robustml.data.records import Records
from robustml.data.splits import Split
from robustml.errors import RequestError, nearest
from robustml.results import SignedData

Verify = Literal["never", "start", "always"]


class Guard(Protocol):
    """Holds a set against a signed manifest (`robustml.guarded` makes one)."""

    @property
    def facts(self) -> SignedData:
        """What vouched for the data, once they were checked."""
        ...

    def check(self, source: Source) -> None:
        """Raise unless every file is as signed, or could be restored."""
        ...

    def load(self, source: Source, split: Split) -> Records:
        """A part, decoded from the files that were checked, whatever the cache holds."""
        ...


class Guarded(Protocol):
    """What is asked for its guard: a `DataModule`."""

    verify: Verify
    guard: Guard | None


def guard_of(data: Guarded) -> Guard | None:
    """Who vouches for data whose `verify` asks for it, which nobody doing is an error; None where it does not ask."""
    if data.verify == "never":
        return None
    if data.guard is None:
        raise RequestError(f"data.verify={data.verify} needs a guard: data = robustml.guarded(data), before setup")
    return data.guard


def check_verify(verify: str) -> None:
    """Refuse a word that is none of `Verify`."""
    if verify not in get_args(Verify):
        raise RequestError(f"there is no data.verify={verify!r}; {nearest(str(verify), get_args(Verify))}")
