"""From a composed config to plain settings, and from settings to objects."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from robustml.commands.strangers import PATHS, check_recorded
from robustml.commands.trusted import Trust
from robustml.errors import RequestError
from robustml.files import write_text
from robustml.untrusted import own_files, read_yaml

__all__ = ["build", "number", "numbered", "plain", "plain_target", "read_settings", "record", "write_settings"]

Settings = dict[str, Any]

_FRACTION = re.compile(r"[+-]?\d+(?:\.\d+)?\s*/\s*\d+(?:\.\d+)?")


def plain(config: DictConfig) -> Settings:
    """The resolved config as dicts, lists and values, with every fraction such as ``8/255`` as a number."""
    container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    settings = numbered(container)
    assert isinstance(settings, dict)
    return settings


def build(settings: Any, **extra: Any) -> Any:
    """The object that settings with a `_target_` describe; nested ones too. None stays None."""
    return None if settings is None else instantiate(settings, _convert_="all", **extra)


def write_settings(settings: Settings, path: Path) -> None:
    """Write settings as YAML, enough to repeat the run; every part is written out, also where two are the same."""
    write_text(path, yaml.dump(settings, Dumper=_WrittenOut, sort_keys=False, allow_unicode=True))


class _WrittenOut(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    def ignore_aliases(self, data: Any) -> bool:
        """No ``&id001`` and ``*id001``, which few people can read."""
        return True


def number(value: Any) -> float:
    """A number, or a fraction such as ``8/255``, as a float.

    Raises:
        RequestError: it is neither.
    """
    try:
        numerator, _, denominator = str(value).partition("/")
        return float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise RequestError(f"expected a number or a fraction such as 8/255, got {value!r}") from error


def read_settings(run: Path, trust: Trust = None) -> Settings:
    """The settings of a run directory, which somebody else may have written.

    They are plain values, and name only classes of robustml's own or of those that are trusted. What was typed at the
    time (`overrides`) is left out: it is in them.

    Args:
        run: the directory.
        trust: see `check_recorded`.

    Raises:
        RequestError: the folder is not a run directory, leads elsewhere, or its config.yaml cannot be read or trusted.
    """
    path = run / "config.yaml"
    if not run.is_dir():
        raise RequestError(f"there is no run directory {run}")
    if not os.path.lexists(path):
        raise RequestError(f"{run} is not a run directory: it has no config.yaml")
    own_files(run)
    settings = read_yaml(path)
    if not isinstance(settings, dict):
        raise RequestError(f"{path} holds no settings: expected a mapping")
    settings.pop("overrides", None)
    check_recorded(settings, path, trust)
    return settings


def record(settings: Settings, without: Sequence[str] = ()) -> None:
    """Put the settings of an earlier run where the entry points' `recorded` default finds them.

    Overrides on the command line then apply to them as they do to a built-in config: the attacks follow the threat.

    Args:
        settings: of the run.
        without: groups that are chosen anew. Merged into the run's, they would keep its keys: the p of an Lp ball in a
            threat that has none.
    """
    literal = {key: _escaped(value) if key in PATHS else value for key, value in settings.items()}
    linked = {key: _follow(value, settings.get("threat")) for key, value in literal.items() if key not in without}
    ConfigStore.instance().store(name="recorded", node=linked, package="_global_")


def _escaped(value: Any) -> Any:
    """A path as OmegaConf has to be given it: where it holds ``${``, that is a name and no reference."""
    return re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + "\\${", value) if isinstance(value, str) else value


def _follow(node: Any, threat: Any) -> Any:
    """Write every copy of the run's threat inside `node` as a reference to it again."""
    if isinstance(node, dict):
        return {
            key: "${threat}" if key == "threat" and value == threat else _follow(value, threat)
            for key, value in node.items()
        }
    return [_follow(value, threat) for value in node] if isinstance(node, list) else node


def numbered(node: Any) -> Any:
    """The node with every fraction such as ``8/255`` in it as a number."""
    if isinstance(node, dict):
        # Keys of dicts may be numbers: the epochs of Lightning's GradientAccumulationScheduler are.
        return {key: numbered(value) for key, value in node.items()}
    if isinstance(node, list):
        return [numbered(value) for value in node]
    return number(node) if isinstance(node, str) and _FRACTION.fullmatch(node.strip()) else node


def plain_target(settings: Any) -> str:
    """The class name in a `_target_`, for people to read."""
    return str(settings["_target_"]).rpartition(".")[2]
