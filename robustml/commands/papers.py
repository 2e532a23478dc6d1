"""The papers that can be reproduced: experiments with a `paper` block, the built-in ones and a user's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from robustml.config import config_dir
from robustml.errors import RequestError, nearest
from robustml.results.paper import Paper, read_paper

__all__ = ["chosen_variants", "find_paper", "known_papers"]


def known_papers(own: Path | None = None) -> dict[str, Paper]:
    """Every experiment that has a `paper` block, by name.

    Args:
        own: a folder of a user's configs (`--config-dir`), searched beside the built-in ones.

    Raises:
        RequestError: a block or a file is not valid.
    """
    folders = [config_dir(), *([own] if own is not None else [])]
    papers = {}
    for path in sorted(path for folder in folders for path in (folder / "experiment").glob("*.yaml")):
        try:
            content = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise RequestError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
        if isinstance(content, dict) and "paper" in content:
            papers[path.stem] = read_paper(content["paper"], path.stem)
    return papers


def find_paper(name: str, papers: dict[str, Paper]) -> Paper:
    """The paper of that name.

    Raises:
        RequestError: there is none; names the nearest.
    """
    if name not in papers:
        raise RequestError(f"there is no paper {name!r}; {nearest(name, papers)} (robustml reproduce --list)")
    return papers[name]


def chosen_variants(paper: Paper, names: Sequence[str] | None) -> list[str]:
    """The variants to run, all of them if none is named.

    Raises:
        RequestError: a name is unknown.
    """
    known = [variant.name for variant in paper.variants]
    for name in names or []:
        if name not in known:
            raise RequestError(f"{paper.id} has no variant {name!r}; {nearest(name, known)}")
    return [name for name in known if names is None or name in names]
