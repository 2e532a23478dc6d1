"""The words by which a manipulation's variant is chosen."""

from __future__ import annotations

from collections.abc import Sequence

from robustml.errors import RequestError, nearest

__all__ = ["check_kind"]


def check_kind(kind: str, known: Sequence[str]) -> None:
    """Refuse an unknown variant.

    Raises:
        RequestError: `kind` is none of `known`.
    """
    if kind not in known:
        raise RequestError(f"poison.kind={kind!r} is unknown; {nearest(str(kind), known)}")
