"""The settings of a run: config.yaml of its directory, enough to repeat it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from robustml.errors import RequestError
from robustml.files import write_text
from robustml.untrusted import own_files, read_yaml
from robustml.workflows.settings.building import Settings
from robustml.workflows.settings.safe import check_recorded
from robustml.workflows.settings.trust import Trust

CONFIG = Path("config.yaml")


def write_settings(settings: Settings, path: Path) -> None:
    """Write settings as YAML, enough to repeat the run; every part is written out, also where two are the same."""
    write_text(path, yaml.dump(settings, Dumper=_WrittenOut, sort_keys=False, allow_unicode=True))


class _WrittenOut(yaml.SafeDumper):  # type: ignore[misc]  # PyYAML has no types
    def ignore_aliases(self, data: Any) -> bool:
        """No ``&id001`` and ``*id001``, which few people can read."""
        return True


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
    path = run / CONFIG
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
    # It imports torch, which whoever only composes a config does not wait for.
    from robustml.workflows.reading.version_0_1 import without_threats

    return without_threats(settings)


def leaves(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every value by its dotted key, as a config.yaml would hold it; lists are values."""

    def walk(node: Any, prefix: str) -> Iterator[tuple[str, Any]]:
        if isinstance(node, Mapping):
            for key, value in node.items():
                yield from walk(value, f"{prefix}.{key}" if prefix else str(key))
        else:
            yield prefix, node

    return dict(walk(yaml.safe_load(yaml.safe_dump(dict(settings))), ""))
