"""What the site does with the Python in its pages: runs it, and documents each public name below its first example.

A page of docs/reference whose front matter says ``room: robustml.attacks`` is about that room. A public name of it that
no example uses, an example that fails and a name without a docstring are errors, at which a build (`make docs`) stops.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).parents[1] / "docs"
PAGES = DOCS / "reference"
PRELUDE = PAGES / "index.md"
RUN = ("index.md", "how-to/", "reference/")
RAN: dict[Path, int] = {}  # a page, and its examples
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str | None:
    """Run the examples of a page, and put the documentation of what they use below them."""
    if not page.file.src_uri.startswith(RUN):
        return None
    path = DOCS / page.file.src_uri
    try:
        run(path)
        return documented(markdown, str(page.meta["room"])) if "room" in page.meta else None
    except Exception as error:
        raise PluginError(f"{page.file.src_uri}: {error}") from error


def on_post_build(config: MkDocsConfig) -> None:
    """Say what passed."""
    logging.getLogger("mkdocs.hooks").info(f"{sum(RAN.values())} examples of {len(RAN)} pages ran")


def rooms() -> dict[str, Path]:
    """The rooms that have a page, and the page."""
    found = {}
    for path in sorted(PAGES.glob("*.md")):
        _, fence, rest = path.read_text().partition("---\n")
        if fence and "room" in (meta := yaml.safe_load(rest.partition("---\n")[0])):
            found[meta["room"]] = path
    return found


def public(room: str) -> list[str]:
    """The names that the page of a room documents; of robustml itself, those that no other page does."""
    module = importlib.import_module(room)
    values = {name: getattr(module, name) for name in getattr(module, "__all__", ()) or _own(module)}
    if room == "robustml":
        others = [importlib.import_module(each) for each in rooms() if each != room]
        elsewhere = {id(getattr(each, name)) for each in others for name in getattr(each, "__all__", ()) or _own(each)}
        values = {name: value for name, value in values.items() if id(value) not in elsewhere}
    values = {name: value for name, value in values.items() if not (inspect.ismodule(value) or name == "__version__")}
    for name, value in values.items():
        if not (inspect.isclass(value) or inspect.isroutine(value)):
            continue
        # a dataclass or named tuple without a docstring is given its signature as one
        if not (value.__doc__ or "").strip() or str(value.__doc__).startswith(f"{value.__name__}("):
            raise ValueError(f"{room}.{name} has no docstring")
    return list(values)


def _own(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__]


def examples(text: str) -> list[str]:
    """The Python of a page, block by block."""
    return EXAMPLE.findall(text)


def used(code: str) -> set[str]:
    """The names that code uses; to import one is not to use it."""
    nodes = list(ast.walk(ast.parse(code)))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


def documented(markdown: str, room: str) -> str:
    """The page with each public name of a room documented below the example that uses it first.

    Raises:
        ValueError: a name has no example, or no docstring.
    """
    left = public(room)

    def with_names(match: re.Match[str]) -> str:
        here = [name for name in left if name in used(match[1])]
        left[:] = [name for name in left if name not in here]
        blocks = (f"::: {room}.{name}\n    options: {{heading_level: 3}}" for name in here)
        return "\n\n".join((match[0], *blocks))

    page = EXAMPLE.sub(with_names, markdown)
    if left:
        raise ValueError(f"no example uses {', '.join(left)} of {room}")
    return page


def run(path: Path) -> None:
    """Run the examples of a page, where it has any, one after another in an empty folder, after reference/index.md's.

    Raises:
        ValueError: one of them fails.
    """
    if not examples(path.read_text()):
        return
    names: dict[str, Any] = {}
    with _empty_folder(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for page in dict.fromkeys((PRELUDE, path)):
            for code in examples(page.read_text()):
                try:
                    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                        exec(compile(code, str(page), "exec"), names)
                except Exception as error:
                    raise ValueError(f"an example fails: {type(error).__name__}: {error}\n\n{code}") from error
    RAN[path] = len(examples(path.read_text()))


@contextlib.contextmanager
def _empty_folder() -> Iterator[None]:
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(here)
