"""What a pickle would call when it is loaded, found by following its opcodes without running any of them.

Each opcode is followed as the unpickler would, on a stack of what is known of each value: texts, numbers, small tuples,
names and what was made with them. A name that weights do not need (`allowed.py`) is a finding, whether it is called
or not; so is calling or changing what is not a name of the list, a name that is put together, an extension code, and
whatever no unpickler could follow. The names of `GLOBAL` and `INST` are read from the bytes, since `pickletools`
resolves escapes in them, which the unpickler does not.
"""

from __future__ import annotations

import _compat_pickle
import pickletools
import warnings
from collections.abc import Callable
from typing import Any

from robustml.scanning.allowed import Name, is_allowed
from robustml.scanning.stack import OTHER, Damaged, Made, Stack, few
from robustml.scanning.windows import Budget, Opcodes, TooMuch, Window

_TEXT, _NUMBER, _TEXTS, _MOST = 256, 2**128, 64 * 2**20, 100
_PUSHED = frozenset(
    [
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "LONG4",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "FLOAT",
        "BINFLOAT",
        "EMPTY_LIST",
        "EMPTY_SET",
        "NEXT_BUFFER",
    ]
)
_NOTHING = frozenset({"FRAME", "STOP", "READONLY_BUFFER"})


class Followed:
    """What following one pickle found.

    Attributes:
        names: the names outside the list, each with how it is used and the place of the opcode that names it.
        calls: those of them that would be called.
        problems: whatever else is refused.
        damaged: why it could not be followed to its end, or nothing.
        result: what is known of what it holds.
        end: the place behind it.
    """

    def __init__(self) -> None:
        self.names: dict[Name, str] = {}
        self.calls: set[Name] = set()
        self.problems: dict[str, None] = {}
        self.damaged, self.end = "", 0
        self.result: Any = OTHER

    @property
    def lines(self) -> list[tuple[str, str]]:
        """What is refused, each with the name that it would import, or nothing."""
        return [*((said, str(name)) for name, said in self.names.items()), *((said, "") for said in self.problems)]

    @property
    def certain(self) -> bool:
        """Whether it calls a name that can be one: random bytes and texts do not."""
        return any(map(is_identifier, self.calls))


def is_identifier(name: Name) -> bool:
    """Whether modules and what is in them can be called so."""
    return all(part.isidentifier() for part in str(name).split("."))


def follow(
    window: Window,
    budget: Budget,
    persistent: Callable[[Any], str] | None = None,
    array: Callable[[Window, dict[str, Any]], None] | None = None,
) -> Followed:
    """Follow the pickle that begins where the window stands, and leave the window behind it.

    Args:
        window: the file.
        budget: what may be spent.
        persistent: says what is wrong with a persistent id, or nothing; without it, every one is refused.
        array: passes over what joblib writes behind the wrapper of an array, whose state it gets.

    Raises:
        TooMuch: it is longer than a scan follows.
    """
    machine = _Machine(window, budget, persistent, array)
    found = machine.found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in what is no pickle
            machine.run()
    except Damaged as error:
        found.damaged = str(error)
    except (ValueError, IndexError, KeyError, OverflowError, TypeError) as error:  # what genops raises
        found.damaged = (str(error).splitlines() or [type(error).__name__])[0][:200]
    found.end = window.tell()
    return found


class _Machine(Stack):
    def __init__(self, window: Window, budget: Budget, persistent: Any, array: Any) -> None:
        super().__init__()
        self.window, self.budget, self.persistent, self.array = window, budget, persistent, array
        self.found, self.texts, self.protocol = Followed(), 0, 0

    def run(self) -> None:
        stopped = False
        for opcode, argument, place in pickletools.genops(Opcodes(self.window)):  # type: ignore[arg-type]
            self.budget.opcode()
            self.check()
            self.place, name = place or 0, opcode.name
            if name in _PUSHED:
                self.push(self._known(argument) if opcode.arg else None if name == "NONE" else OTHER)
            elif name == "PROTO":
                self._protocol(argument)
            elif name not in _NOTHING:
                getattr(self, f"_{name.lower()}")(argument)
            stopped = name == "STOP"
        if stopped:
            self.found.result = self.take()

    def _known(self, value: Any) -> Any:
        if isinstance(value, str):
            if len(value) > _TEXT:
                return OTHER
            self.texts += len(value)
            if self.texts > _TEXTS:
                raise TooMuch(f"it holds more than {_TEXTS:,} letters in names")
            return value
        if isinstance(value, int):
            return value if abs(value) < _NUMBER else OTHER
        return None if value is None else OTHER

    def _problem(self, what: str) -> None:
        if len(self.found.problems) < _MOST:
            self.found.problems[what] = None

    def changed(self, value: Any) -> Any:
        """The value; a name is changed for the whole program."""
        if isinstance(value, Name):
            self._problem(f"would change {_shown(value)}")
        return value

    def _lines(self) -> Name:
        """The two lines of GLOBAL and INST as they stand there."""
        place = self.place + 1
        module, newline, name = self.window.at(place, self.window.tell() - place).partition(b"\n")
        module = module if newline else module[:-1]
        return Name(module.decode(errors="backslashreplace"), name[:-1].decode(errors="backslashreplace"))

    def _protocol(self, number: Any) -> None:
        if number > 5:
            raise Damaged(f"protocol {number} is none that there is")
        self.protocol = number

    def _named(self, name: Name) -> Name:
        if self.protocol < 3:  # what Python 2 called otherwise
            module, word = _compat_pickle.NAME_MAPPING.get((name.module, name.name), (name.module, name.name))
            name = Name(_compat_pickle.IMPORT_MAPPING.get(module, module), word)
        if not is_allowed(name) and len(self.found.names) < _MOST:
            self.found.names.setdefault(name, f"would import {_shown(name)}")
        return name

    def _called(self, name: Any, arguments: Any) -> Any:
        if not isinstance(name, Name):
            what = f"what {_shown(name.name)} gives" if isinstance(name, Made) else "what is no name"
            self._problem(f"would call {what} (byte {self.place:,})")
            return OTHER
        if not is_allowed(name):
            if name in self.found.names:
                self.found.names[name] = f"would call {_shown(name)}{_arguments(arguments)}"
                self.found.calls.add(name)
            return Made(name, None)
        first, *more = arguments if isinstance(arguments, tuple) and arguments else (OTHER,)
        if name.module == "_codecs" and more not in (["latin1"], ["latin-1"]):
            self._problem(f"would call {name} with another encoding than latin1")
        if name.name in ("bytes", "bytearray") and isinstance(first, int):
            self._problem(f"would make {name} of {first:,}")
        return Made(name, arguments)

    def _global(self, _: Any) -> None:
        self.push(self._named(self._lines()))

    def _stack_global(self, _: Any) -> None:
        name, module = self.take(), self.take()
        if isinstance(name, str) and isinstance(module, str):
            self.push(self._named(Name(module, name)))
            return
        self._problem(f"would import a name that cannot be told before (byte {self.place})")
        self.push(OTHER)

    def _inst(self, _: Any) -> None:
        name = self._named(self._lines())
        self.push(self._called(name, few(self.to_mark())))

    def _obj(self, _: Any) -> None:
        taken = self.to_mark()
        if not taken:
            raise Damaged(f"the opcode at byte {self.place} calls nothing")
        self.push(self._called(taken[0], few(taken[1:])))

    def _reduce(self, _: Any) -> None:
        arguments, name = self.take(), self.take()
        self.push(self._called(name, arguments))

    _newobj = _reduce

    def _newobj_ex(self, _: Any) -> None:
        self.take()
        self._reduce(_)

    def _build(self, _: Any) -> None:
        state, made = self.take(), self.take()
        self.push(self.changed(made))
        if isinstance(made, Made):
            made.state = state
            if self.array is not None and made.name.name == "NumpyArrayWrapper" and is_allowed(made.name):
                self.array(self.window, state if isinstance(state, dict) else {})
                self.stack[-1] = OTHER  # joblib puts the array in its place

    def _extension(self, code: Any) -> None:
        self._problem(f"would import whatever is registered as extension {code}")
        self.push(OTHER)

    _ext1 = _ext2 = _ext4 = _extension

    def _persid(self, argument: Any) -> None:
        self._identified(argument)

    def _binpersid(self, _: Any) -> None:
        self._identified(self.take())

    def _identified(self, value: Any) -> None:
        wrong = self.persistent(value) if self.persistent is not None else "what it stands for is up to its reader"
        if wrong:
            self._problem(f"has a persistent id (byte {self.place}): {wrong}")
        self.push(OTHER)


def _shown(name: Name) -> str:
    text = str(name)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _arguments(arguments: Any) -> str:
    """The texts and numbers of a call, as far as they are known and short."""
    if not isinstance(arguments, tuple):
        return "(...)"
    words = [repr(value)[:60] if isinstance(value, str | int) else "..." for value in arguments]
    return f"({', '.join(words)})"
