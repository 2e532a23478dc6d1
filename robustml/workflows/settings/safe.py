"""Which code a recorded config may name. A run directory may come from a stranger: reading one runs nothing of his.

Every `_target_` has to be, by its full name, one of the public classes that its key is there for: `model` names an
architecture, `threat` a threat. A name is looked up in the list of those and never imported, so that nothing can be
reached through a module that happens to import it (`robustml.models.torch.load`). Whoever ran the training may have
used classes of his own: the user says that he trusts them, on the command line or in the call. What he writes on the
command line himself is not asked about.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from robustml.errors import RequestError
from robustml.workflows.settings.building import CALLABLE, GIVEN, locate
from robustml.workflows.settings.trust import Trust, named, trusted

# Of Lightning's, those that write nothing, or only into the run.
_CALLBACKS = """DeviceStatsMonitor EarlyStopping GradientAccumulationScheduler LearningRateFinder LearningRateMonitor
ModelSummary RichProgressBar StochasticWeightAveraging TQDMProgressBar Timer"""
# What stands under a key: public classes of a room ("room.*"), and single names.
_KEYS: dict[str, tuple[str, ...]] = {
    "model": ("robustml.models.*", "robustml.models.timm_model", "torchvision.models.*", "robustml.trojans.Trojaned"),
    "net": ("robustml.trojans.TrojanNet",),
    "student": ("robustml.models.*", "robustml.models.timm_model", "torchvision.models.*"),
    "threat": ("robustml.threats.*",),
    "threats": ("robustml.threats.*",),
    "attack": ("robustml.attacks.*",),
    "attacks": ("robustml.attacks.*",),
    "objective": ("robustml.objectives.*",),
    "optimizer": ("torch.optim.*",),
    "scheduler": ("robustml.training.*",),
    "data": ("robustml.data.DataModule",),
    "source": ("robustml.data.sources.*",),
    "augment": ("robustml.data.*",),
    "extra": ("robustml.data.ExtraImages",),
    "mix": ("robustml.data.*",),
    "balance": ("robustml.data.resampled",),
    **dict.fromkeys(("labeller", "surrogate", "helper"), ("robustml.load_model",)),
    **dict.fromkeys(("poison", "poisons", "trigger", "shown_trigger"), ("robustml.poisoning.*",)),
    **dict.fromkeys(("previous_round", "baseline"), ("robustml.poisoning.*",)),
    "certification": ("robustml.evaluation.*",),
    # "defence" in version 0.1
    **dict.fromkeys(("pool", "defense", "defence"), ("robustml.extraction.*",)),
    "training": ("robustml.extraction.*", "robustml.defenses.repair.*"),
    "method": ("robustml.extraction.*", "robustml.defenses.repair.*"),
    "detector": ("robustml.defenses.detect.*",),
    "limits": ("robustml.extraction.Limits",),
    "trainer": ("pytorch_lightning.Trainer",),
    "logger": tuple(f"pytorch_lightning.loggers.{name}Logger" for name in ("TensorBoard", "Wandb", "CSV")),
    "callbacks": (
        "robustml.training.callbacks.*",
        *(f"pytorch_lightning.callbacks.{name}" for name in _CALLBACKS.split()),
    ),
}
# Below these, the keys are names of the user's choice.
_COLLECTIONS = frozenset({"attacks", "callbacks", "detector", "logger", "poisons"})
# Public, and yet: the first writes wherever it is told to, the second asks whatever address it is told.
_NEVER = frozenset(
    {"robustml.training.callbacks.table.EpochTable", "robustml.extraction.endpoint.http_victim.HttpVictim"}
)
# Hydra's own words, and what they may say. The others of them (`_args_`, `_recursive_`) no config of ours needs.
_WORDS = {"_partial_": (True, False), "_convert_": ("none", "partial", "object", "all")}
_GROUPS = ("data", "model", "threat", "evaluation", "objective", "optimizer", "trainer", "validation")
PATHS = frozenset({"run", "resume", "victim", "checkpoint", "output", "backdoor_of", "surrogate"})
"""Top-level keys whose values may hold any characters; to OmegaConf they are given with ``${`` escaped."""
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_ON_THE_HUB = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


def check_recorded(settings: dict[str, Any], source: Path, trust: Trust = None) -> None:
    """Refuse settings that somebody recorded if building them could do more than robustml's own configs can.

    Args:
        settings: as read; nothing of them is built or imported here, but for modules that are trusted.
        source: the file, for the message.
        trust: True for any code, or the modules of the user's own that may be named; None is what `take_trust` found.

    Raises:
        RequestError: names the first key, what it holds, and what to type where that is trusted.
    """
    trust = trusted() if trust is None else trust
    names = named(trust)
    for key in settings.keys() & {"hydra", "defaults"}:
        raise RequestError(f"{source} is refused: it sets {key!r}, which no run records; remove it there")
    for key in _GROUPS:
        if not isinstance(settings.get(key, {}), dict):
            raise RequestError(f"{source} is damaged: {key} must hold settings, got {_shown(settings[key])}")
    for place, room, node in _nodes(settings):
        here = f"{source} is refused: {'.'.join(map(_shown, place))}"
        if isinstance(node, str):
            is_path = len(place) == 1 and place[0] in PATHS
            if ("${" in node and not is_path) or node == "???":
                raise RequestError(f"{here}={_shown(node)} stands for something else, and a run records plain values")
        if isinstance(node, dict) and node.get(GIVEN) is True:
            if trust is not True and (not names or _missing_trust(str(node.get("path", node.get("_target_"))), names)):
                continue  # `build` refuses it
            del node[GIVEN]  # whoever trusts it has it made without arguments
        if isinstance(node, dict) and trust is not True:
            for key, value in node.items():
                if str(key)[:1] == "_" and key != "_target_" and value not in _WORDS.get(key, ()):
                    raise RequestError(
                        f"{here}.{_shown(key)} is a word to Hydra that no run records; trust=true allows it"
                    )
            if "_target_" in node:
                _check(node, room, here, names)


def _nodes(
    node: Any, place: tuple[Any, ...] = (), room: tuple[str, ...] = (), *, named: bool = False
) -> Iterator[tuple[tuple[Any, ...], tuple[str, ...], Any]]:
    """Everything in the settings: where it stands, what may stand there, and itself."""
    yield place, room, node
    if isinstance(node, dict):
        for key, value in node.items():
            inner = room if named and "_target_" not in node else _KEYS.get(str(key), ())
            yield from _nodes(value, (*place, key), inner, named=key in _COLLECTIONS)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _nodes(value, (*place, index), room)


def _check(node: dict[str, Any], room: tuple[str, ...], here: str, names: Sequence[str]) -> None:
    target = node["_target_"]
    key = "_target_"
    if target == CALLABLE:
        key, target = "path", node.get("path")
    if isinstance(target, str) and _MODULE.fullmatch(target):
        if key == "_target_" and _home(target) not in _NEVER and _is_ours(target, room):
            _check_arguments(target, node, here)
            return
        module = _missing_trust(target, names)
        if module is None:
            return
        remedy = f"if you trust it, add trust={module} or trust=true, in Python load_model(..., trust={module!r})"
    else:
        remedy = "it is no name of a class"
    raise RequestError(f"{here}.{key}={_shown(target)} is code that the run names, and none of robustml's: {remedy}")


def _is_ours(target: str, room: Iterable[str]) -> bool:
    """Whether the name is one of those that may stand there."""
    for entry in room:
        module, _, name = entry.rpartition(".")
        if name != "*":
            found = _home(target) == _home(entry)
        elif module == "torchvision.models":
            found = target.startswith(f"{module}.") and target.removeprefix(f"{module}.") in _torchvision_models()
        else:
            found = _home(target) in {_home(f"{module}.{each}") for each in _lists(module)[0] if each[0].isupper()}
        if found:
            return True
    return False


@cache
def _lists(module: str) -> tuple[frozenset[str], dict[str, str]]:
    """What a module of ours exports, and where it has what it imports from; read, for none of it may be needed."""
    if module == "torch.optim":
        return frozenset(import_module(module).__all__), {}
    path = Path(__file__).parents[2].joinpath(*module.split(".")[1:])
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8")))) if file.is_file() else []
    exported = [n.value for n in nodes if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"]
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    return frozenset(ast.literal_eval(exported[0]) if exported else ()), imported


def _home(target: str) -> str:
    """The name of something of ours where it is defined: `robustml.data.Csv` is `robustml.data.sources.csv.Csv`."""
    module, _, name = target.rpartition(".")
    if not re.fullmatch(r"robustml(\.[a-z]\w*)*", module) or name not in _lists(module)[0]:
        return target
    origin = _lists(module)[1].get(name)
    return target if origin is None else _home(origin)


def _torchvision_models() -> list[str]:
    try:
        models = import_module("torchvision.models")
    except ImportError:
        return []
    return list(models.list_models(module=models))


def _missing_trust(target: str, names: Sequence[str]) -> str | None:
    """The module to trust before `target` may be used: where it is defined, not where it only happens to be found."""

    def covered(module: str) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in names)

    if not covered(target):
        return target.rpartition(".")[0] or target
    try:
        home = str(getattr(locate(target), "__module__", None))
    except Exception as error:
        raise RequestError(f"{target} cannot be imported: {' '.join(str(error).split())}") from error
    return None if covered(home) else home


def _check_arguments(target: str, node: dict[str, Any], here: str) -> None:
    """Refuse arguments with which even a class of ours reaches further than a config should."""
    arguments = {key: value for key, value in node.items() if str(key)[:1] != "_"}
    if target.endswith(".load_model"):
        bad = arguments.keys() - {"run_dir", "which"}
    elif target.endswith("timm_model") or target.startswith("torchvision."):
        plain = {key for key, value in arguments.items() if _is_numbers(value)} | {"name"}
        bad = arguments.keys() - plain
        if not re.fullmatch(r"[\w.]*", str(arguments.get("name", ""))):
            bad |= {"name"}
    elif target.endswith("HubImages"):
        bad = set() if _ON_THE_HUB.fullmatch(str(arguments.get("path"))) else {"path"}
    else:
        return
    if bad:
        key = min(bad, key=str)
        raise RequestError(
            f"{here}.{key}={_shown(arguments.get(key))} could fetch or run what others have made: trust=true allows it"
        )


def _is_numbers(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or (isinstance(value, list) and all(map(_is_numbers, value)))


def _shown(value: Any) -> str:
    """A stranger's words: short, and without anything that would repaint a terminal."""
    text = str(value)
    text = text if len(text) <= 100 else f"{text[:97]}..."
    return text if text.isprintable() else repr(text)
