"""The stack and the memo of an unpickler, of values of which only a little is known."""

from __future__ import annotations

from typing import Any

from robustml.scanning.allowed import Name
from robustml.scanning.windows import TooMuch

_DEEPEST, _KNOWN = 2**21, 8


class Damaged(Exception):
    """What no unpickler could follow."""


class _Other:
    """A value of which nothing is known, such as a list or bytes."""


OTHER, _MARK = _Other(), object()


class Made:
    """What a call of a name gives: the name, the arguments, and what it was told by BUILD."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: Name, arguments: Any) -> None:
        self.name, self.arguments, self.state = name, arguments, None


class Stack:
    """What each opcode that calls nothing does; a method is named after its opcode."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.place = 0

    def changed(self, value: Any) -> Any:
        """The value, which is about to be filled or given attributes."""
        return value

    def check(self) -> None:
        """Refuse to hold more than there is room for."""
        if len(self.stack) > _DEEPEST or len(self.memo) > _DEEPEST:
            raise TooMuch(f"it holds more than {_DEEPEST:,} values at once")

    def push(self, value: Any) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def take(self) -> Any:
        """Take the value on top off."""
        if not self.stack or self.stack[-1] is _MARK:
            raise Damaged(f"the opcode at byte {self.place} takes from an empty stack")
        return self.stack.pop()

    def to_mark(self) -> list[Any]:
        """Take off all values above the last mark, and that."""
        taken: list[Any] = []
        while self.stack:
            value = self.stack.pop()
            if value is _MARK:
                return taken[::-1]
            taken.append(value)
        raise Damaged(f"the opcode at byte {self.place} looks for a mark that is not there")

    def _append(self, _: Any) -> None:
        self.take()
        self.push(self.changed(self.take()))

    def _appends(self, _: Any) -> None:
        self.to_mark()
        self.push(self.changed(self.take()))

    _additems = _appends

    def _list(self, _: Any) -> None:
        self.to_mark()
        self.push(OTHER)

    _frozenset = _list

    def _empty_tuple(self, _: Any) -> None:
        self.push(())

    def _tuple(self, _: Any) -> None:
        self.push(few(self.to_mark()))

    def _tuple1(self, _: Any, number: int = 1) -> None:
        self.push(tuple([self.take() for _ in range(number)][::-1]))

    def _tuple2(self, _: Any) -> None:
        self._tuple1(_, 2)

    def _tuple3(self, _: Any) -> None:
        self._tuple1(_, 3)

    def _empty_dict(self, _: Any) -> None:
        self.push({})

    def _dict(self, _: Any) -> None:
        self.push(_filled({}, self.to_mark()))

    def _setitem(self, _: Any) -> None:
        value, key = self.take(), self.take()
        self.push(_filled(self.changed(self.take()), [key, value]))

    def _setitems(self, _: Any) -> None:
        items = self.to_mark()
        self.push(_filled(self.changed(self.take()), items))

    # --- stack and memo

    def _mark(self, _: Any) -> None:
        self.push(_MARK)

    def _pop_mark(self, _: Any) -> None:
        self.to_mark()

    def _pop(self, _: Any) -> None:
        if not self.stack:
            raise Damaged(f"the opcode at byte {self.place} takes from an empty stack")
        self.stack.pop()

    def _dup(self, _: Any) -> None:
        self.push(self.take())
        self.push(self.stack[-1])

    def _get(self, key: int) -> None:
        if key not in self.memo:
            raise Damaged(f"the opcode at byte {self.place} asks for what was never kept")
        self.push(self.memo[key])

    _binget = _long_binget = _get

    def _put(self, key: int) -> None:
        value = self.take()
        self.push(value)
        self.memo[key] = value

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self._put(len(self.memo))


def few(values: list[Any]) -> Any:
    """A tuple of them, where they are so few that they are kept."""
    return tuple(values) if len(values) <= _KNOWN else OTHER


def _filled(target: Any, items: list[Any]) -> Any:
    """The dict with the items; of a large one, those that came first."""
    if isinstance(target, dict):
        for key, value in zip(items[::2], items[1::2], strict=False):
            if isinstance(key, str) and (key in target or len(target) <= _KNOWN):
                target[key] = value
    return target
