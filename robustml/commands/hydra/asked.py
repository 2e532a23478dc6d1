"""What the config of every verb must hold, and the check of it; each verb has a model of its own beside it.

It is checked before anything heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustml.budgets import check_threat
from robustml.config import config_dir
from robustml.errors import RequestError

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Strict(BaseModel):
    """Values of the kind that is meant, and no other; whatever else stands there is somebody else's."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Asked(Strict):
    """Keys that every verb has. A verb's own stand beside them; what a `_target_` takes is checked by its signature."""

    name: str = ""
    output: str = ""
    seed: int = 0
    device: str | None = None


class Threat(Strict):
    """The one eps of a run."""

    eps: float = 0.0


class Curve(Strict):
    """Accuracy against eps."""

    attack: str = ""
    eps: list[float] | None = None
    relative: list[float] | None = None
    limit: Count | None = None


class Evaluation(Strict):
    """How a model is judged."""

    attacks: dict[str, Any] = {}
    cascade: bool = False
    time_limit: float | None = None
    seed: int = 0
    limit: Count | None = None
    batch_size: int = 1
    curve: Curve | None = None


class OfARun(Asked):
    """Of what takes up the model of a run."""

    which: Literal["best", "last"] = "best"
    threat: Threat = Threat()


_KINDS = {
    **dict.fromkeys(("int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "finite_number"), "a number"),
    **dict.fromkeys(("dict_type", "model_type"), "settings"),
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "path_not_file": "a file that is there",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "above {gt:g}",
    "less_than_equal": "at most {le:g}",
}


def check_asked(asked: type[BaseModel], settings: dict[str, Any]) -> None:
    """Refuse half an image, a flag that is no flag, a port that there is none of.

    Args:
        asked: what the entry point's config must hold.
        settings: resolved, with fractions such as ``8/255`` as numbers.

    Raises:
        RequestError: names the first key that is wrong, what is expected and what arrived; or what of the threat is.
    """
    try:
        asked.model_validate({key: value for key, value in settings.items() if value != "???"})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).removeprefix(".")
        expected = first["msg"].removeprefix("Input should be ")
        if (known := _KINDS.get(first["type"])) is not None:
            expected = known.format_map(first.get("ctx", {}))
        nullable = " or null" if _nullable(asked, first["loc"]) else ""
        found = "null" if first["input"] is None else repr(first["input"])
        raise RequestError(f"{key} must be {expected}{nullable}, got {found}") from error
    if isinstance(threat := settings.get("threat"), dict):
        check_threat(threat)


def refuse_missing(settings: Any, config_name: str, choices: Mapping[str, Any], key: str = "") -> None:
    """Refuse a value that is still to be given (``???``), in the words that its config has for it.

    Raises:
        RequestError: names the key.
    """
    for name, value in settings.items() if isinstance(settings, dict) else ():
        refuse_missing(value, config_name, choices, where := f"{key}.{name}".lstrip("."))
        if value == "???":
            group = where.partition(".")[0]
            file = config_dir() / (f"{group}/{choices[group]}.yaml" if group in choices else f"{config_name}.yaml")
            line = re.compile(rf"^ *{re.escape(str(name))}: \?\?\? +# (.*)$", re.MULTILINE)
            found = line.search(file.read_text()) if file.is_file() else None
            raise RequestError(f"{where} has no value yet: add {where}=...{f' ({found[1]})' if found else ''}")


def announcement(verb: str, settings: dict[str, Any], choices: Mapping[str, Any]) -> str:
    """What is about to be done, in a line: which run is taken up, and which options were composed; "" for nothing.

    Args:
        verb: what is done.
        settings: of the command.
        choices: Hydra's, the option of each group.
    """
    named = ("run", "victim", "resume", "checkpoint", "manifest")
    facts = [f"{key} {settings[key]}" for key in named if settings.get(key)]
    facts += [
        f"{group} {choice}"
        for group in ("data", "model", "poison", "objective", "threat", "attack", "method", "evaluation")
        if (choice := choices.get(group)) not in (None, "null", "none")
    ]
    eps = (settings.get("threat") or {}).get("eps")
    told = ", ".join(f"{fact} eps {eps:.4g}" if fact.startswith("threat ") else fact for fact in facts)
    return f"{verb}: {told}" if told else ""


def _nullable(asked: type[BaseModel], place: tuple[int | str, ...]) -> bool:
    """Whether what stands there may be null."""
    members: tuple[Any, ...] = (asked,)
    for part in place:
        models = [each for each in members if isinstance(each, type) and issubclass(each, BaseModel)]
        field = models[0].model_fields.get(str(part)) if models else None
        if field is None:
            return False
        members = get_args(field.annotation) or (field.annotation,)
    return type(None) in members
