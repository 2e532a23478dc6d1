"""Objects out of plain settings: a `_target_` names what is called, and the other keys are its arguments.

Our configs are Hydra's in form, but nothing here needs Hydra: a run is loaded, resumed and evaluated without it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from robustml.errors import RequestError, RunFailed
from robustml.numbers import number

Settings = dict[str, Any]
CALLABLE = "hydra.utils.get_object"
"""As a `_target_`: what `path` names is taken as it is, and not called."""
GIVEN = "_given_"
"""Marks settings of what was an object of the caller's: its name alone does not make it again."""
NO_OWN_THREAT = "attacks and objectives have no threat of their own, it is chosen once: threat.eps=... or threat=..."
_FRACTION = re.compile(r"[+-]?\d+(?:\.\d+)?\s*/\s*\d+(?:\.\d+)?")


def build(settings: Any, key: str = "", /, **extra: Any) -> Any:
    """What settings with a `_target_` describe; nested ones too.

    With `_partial_` it is a function that waits for further arguments. What is built already stays what it is.

    Args:
        settings: of one object, or a value.
        key: where they stand, for messages.
        extra: further arguments, as objects.

    Raises:
        RequestError: the target cannot be imported, or does not take the arguments.
    """
    if isinstance(settings, list):
        return [build(each, f"{key}[{index}]") for index, each in enumerate(settings)]
    if not isinstance(settings, Mapping):
        return settings
    arguments = {name: build(each, f"{key}.{name}" if key else str(name)) for name, each in settings.items()} | extra
    if "_target_" not in arguments:
        return arguments
    target, partial = str(arguments.pop("_target_")), arguments.pop("_partial_", False)
    arguments.pop("_convert_", None)  # to Hydra; all that is here is plain
    where = f"{key}: " if key else ""
    if arguments.pop(GIVEN, False):
        name = arguments.get("path", target)
        raise RequestError(
            f"{where}{name} was an object of the caller's, and no settings can make it again: give it to load_run(run, "
            f"model=...), or say trust={name.rpartition('.')[0]!r} where the class can be made without arguments"
        )
    try:
        if target == CALLABLE:
            return locate(**arguments)
        found = locate(target)
        return functools.partial(found, **arguments) if partial else found(*arguments.pop("_args_", ()), **arguments)
    except (RequestError, RunFailed):
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "unexpected keyword argument 'threat'" in reason:
            reason = NO_OWN_THREAT
        raise RequestError(f"{where}{target} cannot be built: {reason}") from error


def locate(path: str) -> Any:
    """The class, function or other object with that full name.

    Raises:
        RequestError: there is none, or its module cannot be imported.
    """
    module, *names = path.split(".")
    try:
        found: Any = import_module(module)
        for name in names:
            module += f".{name}"
            if not hasattr(found, name):
                import_module(module)
            found = getattr(found, name)
    except Exception as error:
        raise RequestError(f"{path} cannot be imported: {' '.join(str(error).split())}") from error
    return found


def numbered(node: Any) -> Any:
    """The node with every fraction such as ``8/255`` in it as a number."""
    if isinstance(node, dict):
        # Keys of dicts may be numbers: the epochs of Lightning's GradientAccumulationScheduler are.
        return {key: numbered(value) for key, value in node.items()}
    if isinstance(node, list):
        return [numbered(value) for value in node]
    return number(node) if isinstance(node, str) and _FRACTION.fullmatch(node.strip()) else node


def plain_target(settings: Any) -> str:
    """The class name in a `_target_`, or of an object, for people to read."""
    return str(settings["_target_"] if isinstance(settings, Mapping) else type(settings).__name__).rpartition(".")[2]
