"""What the config of a verb must hold, whatever it composes: checked before anything heavy is imported."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robustml.errors import RequestError

__all__ = ["ASKED", "Asked", "check_asked"]

Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what numpy takes
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """Values of the kind that is meant, and no other; whatever else stands there is somebody else's."""

    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


class Asked(Strict):
    """Keys that every verb has. A verb's own stand beside them; what a `_target_` takes is checked by its signature."""

    name: str = ""
    output: str = ""
    seed: Seed = 0
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
    seed: Seed = 0
    limit: Count | None = None
    batch_size: int = 1
    curve: Curve | None = None


class Validation(Strict):
    """What the best weights are selected on."""

    monitor: Literal["adversarial", "clean"] = "clean"


class Train(Asked):
    """Of train, finetune, and whatever is resumed."""

    threat: Threat = Threat()
    evaluation: Evaluation = Evaluation()
    validation: Validation = Validation()
    twin: bool = False
    compile: bool = False
    channels_last: bool = False
    which: Literal["best", "last"] = "best"


class OfARun(Asked):
    """Of what takes up the model of a run."""

    which: Literal["best", "last"] = "best"
    threat: Threat = Threat()


class Evaluate(OfARun):
    """Of evaluate."""

    evaluation: Evaluation = Evaluation()


class Trojan(Evaluate):
    """Of trojan."""

    place: list[int] = []
    weight: float = 0.0
    temperature: float = 0.0
    width: int = 1
    steps: int = 1
    limit: Count | None = None
    batch_size: Count = 1


class Shortcuts(OfARun):
    """Of shortcuts."""

    size: int | None = None
    stride: int | None = None
    pictures: int = 1
    threshold: Share = 0.0


class Feedback(Asked):
    """Of feedback."""

    rounds: Count = 1
    first: Count = 1
    share: Share = 0.0
    shuffle: bool = False
    spam: str | int = ""


class Extract(OfARun):
    """Of extract."""

    victim: str = ""
    budget: Count = 1
    curve: list[float] = []
    transfer_limit: int | None = None
    timeout: Positive = 1.0
    batch_size: Count = 1


class Serve(OfARun):
    """Of serve."""

    host: str = ""
    port: Annotated[int, Field(ge=0, le=65535)] = 0


ASKED: dict[str, type[Asked]] = {
    "train": Train,
    "finetune": Train,
    "resume": Train,
    "evaluate": Evaluate,
    "evaluate_model": Evaluate,
    "trojan": Trojan,
    "shortcuts": Shortcuts,
    "feedback": Feedback,
    "extract": Extract,
    "serve": Serve,
}
"""By entry point; of any other, `Asked` itself."""

_KINDS = {
    **dict.fromkeys(("int_type", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "finite_number"), "a number"),
    **dict.fromkeys(("dict_type", "model_type"), "settings"),
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
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
        RequestError: names the first key that is wrong, what is expected and what arrived.
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
