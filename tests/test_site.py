"""The documentation site: what it generates from the code."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from robustml.config import config_dir

ROOT = Path(__file__).parents[1]


def hook(name: str) -> ModuleType:
    """A hook of mkdocs.yml."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


REFERENCE = hook("reference_pages")
RUN = sorted(
    path for path in (ROOT / "docs").rglob("*.md") if str(path.relative_to(ROOT / "docs")).startswith(REFERENCE.RUN)
)
WHEN = yaml.safe_load((ROOT / "docs" / "methods" / "when.yaml").read_text())


@pytest.mark.parametrize("group", WHEN)
def test_every_method_has_a_page_that_says_when_to_use_it(group: str) -> None:
    options = {path.stem for path in (config_dir() / group).glob("*.yaml")} - {"none"}
    assert set(WHEN[group]) == options
    pages = hook("method_pages")
    for name, when in WHEN[group].items():
        text = pages.page(group, name, when)
        assert when in text
        assert "::: robustml." in text


def test_every_public_name_has_an_example() -> None:
    for room, page in REFERENCE.rooms().items():
        documented = REFERENCE.documented(page.read_text(), room)
        assert all(f"::: {room}.{name}\n" in documented for name in REFERENCE.public(room)), room


def test_a_name_without_an_example_stops_the_build() -> None:
    page = (ROOT / "docs" / "reference" / "threats.md").read_text()
    with pytest.raises(ValueError, match="no example uses Patch of"):
        REFERENCE.documented(page.replace("Patch(3)", "SparseBall(2)"), "robustml.threats")


def test_a_name_without_a_docstring_stops_the_build(monkeypatch: pytest.MonkeyPatch) -> None:
    made = dataclasses.make_dataclass("LpBall", ["eps"])
    monkeypatch.setattr("robustml.threats.LpBall", made)
    with pytest.raises(ValueError, match=r"robustml\.threats\.LpBall has no docstring"):
        REFERENCE.public("robustml.threats")


def test_every_page_of_a_method_is_in_the_navigation() -> None:
    config = SimpleNamespace(nav=[{"Methods": "methods/index.md"}])
    hook("method_pages").on_config(config)
    assert all(f"methods/{group}/{name}.md" in str(config.nav) for group in WHEN for name in WHEN[group])


def test_an_example_that_fails_stops_the_build(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nthreat.at(-1)\n```\n")
    with pytest.raises(ValueError, match="an example fails: RequestError"):
        REFERENCE.run(page)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what Jupyter's own processes say
def test_a_tutorial_whose_cell_fails_stops_the_build(tmp_path: Path) -> None:
    import nbformat
    from mkdocs.exceptions import PluginError

    tutorials, path = hook("tutorial_pages"), tmp_path / "tutorial.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), path)
    file = SimpleNamespace(src_uri="tutorials/tutorial.ipynb", content_bytes=path.read_bytes())
    assert tutorials.on_files([file], None) == [file]
    with pytest.raises(PluginError, match=r"tutorials/tutorial\.ipynb(.|\n)*ZeroDivisionError"):
        tutorials.on_page_read_source(SimpleNamespace(file=file), None)
    tutorials.on_build_error(ValueError())


@pytest.mark.slow  # as `make docs` does
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_examples_run(page: Path) -> None:
    REFERENCE.run(page)
