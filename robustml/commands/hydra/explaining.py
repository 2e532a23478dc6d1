"""Hydra's and OmegaConf's errors in one line, with the nearest name that is known."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Sequence

import hydra
import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from robustml.config import config_dir
from robustml.errors import nearest
from robustml.workflows.settings.building import NO_OWN_THREAT

# Keys of version 0.1, in which each attack held a copy of the threat.
_OWN_THREAT = re.compile(r"^Could not override '[\w.]*(attack|objective)[\w.]*\.threat\b")


def explain(error: Exception, config_name: str | None) -> str:
    """One line about an error; `config_name` is the entry point whose keys are known."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = str(error.missing_cfg_file).removesuffix(".yaml").rpartition("/")
        # Hydra lists no options where the name stood in a list.
        options = error.options or _options(group)
        return f"there is no config {name!r} in {group or 'the config folder'}; {nearest(name, options)}"
    if isinstance(error, OverrideParseException):
        said = first if "=" in str(error.override) else "expected key=value"
        return f"cannot read {error.override!r}: {said}"
    if _OWN_THREAT.search(str(error)):
        return NO_OWN_THREAT
    if config_name and (key := _quoted(first)) and first.startswith("Could not override"):
        if "is not in struct" not in str(error.__cause__):
            return f"{first} {error.__cause__ or 'The value does not fit.'}"
        group = key.partition(".")[0]
        chosen = set(_known_names(config_name, _choices(sys.argv[1:])))
        if group != key and _options(group) and not any(name.startswith(f"{group}.") for name in chosen):
            options = ", ".join(sorted(_options(group)))
            return f"there is no config key {key!r} before an option of {group} is chosen; known: {options}"
        if key in _of_options(group):
            return f"the options chosen here have no key {key!r}; it belongs to another option of its group"
        return f"there is no config key or group {key!r}; {nearest(key, _siblings(key, chosen))}"
    if first.startswith("Config group"):
        return "a config group cannot be set to null; name one of its options, such as scheduler=none"
    if isinstance(error, MissingMandatoryValue) and error.full_key:
        return f"{error.full_key} has no value yet: add {error.full_key}=..."
    if first.startswith("Error in call to target") or first.startswith("Error locating target"):
        return f"{first} {error.__cause__ or ''}"
    return first


def _quoted(text: str) -> str | None:
    parts = text.split("'")
    return parts[1] if len(parts) > 2 else None


def _siblings(key: str, known: set[str]) -> set[str]:
    """The known names beside `key`; where there are none, like names as deep, or those at the top."""
    parent, depth = key.rpartition(".")[0], key.count(".")
    beside = {name for name in known if name.rpartition(".")[0] == parent}
    alike = difflib.get_close_matches(key, [name for name in known if name.count(".") == depth], n=2, cutoff=0.7)
    return beside or set(alike) or {name for name in known if "." not in name}


def _options(group: str) -> list[str]:
    return [path.stem for path in (config_dir() / group).glob("*.yaml")]


def _of_options(group: str) -> set[str]:
    """The dotted keys that any option of the group has."""
    contents = (yaml.safe_load(path.read_text()) for path in (config_dir() / group).glob("*.yaml"))
    return {name for content in contents for name in _dotted(content, f"{group}.")}


def _choices(words: Sequence[str]) -> list[str]:
    """Those of the words that choose options of groups, such as ``poison=badnets``."""
    return [word for word in words if (group := word.partition("=")[0]) and (config_dir() / group).is_dir()]


def _known_names(config_name: str, choices: Sequence[str]) -> Iterator[str]:
    """Every group and every dotted key of the entry point's config, with the options chosen."""
    folder = config_dir()
    yield from (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir())
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            config = hydra.compose(config_name, overrides=list(choices))
    except (HydraException, OmegaConfBaseException):
        return
    yield from _dotted(OmegaConf.to_container(config, resolve=False))


def _dotted(node: object, prefix: str = "") -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield f"{prefix}{key}"
            yield from _dotted(value, f"{prefix}{key}.")
