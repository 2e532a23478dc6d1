"""The documentation site: what it generates from the code."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import yaml

from robustml.config import config_dir

ROOT = Path(__file__).parents[1]
WHEN = yaml.safe_load((ROOT / "docs" / "methods" / "when.yaml").read_text())


@pytest.mark.parametrize("group", WHEN)
def test_every_method_has_a_page_that_says_when_to_use_it(group: str) -> None:
    options = {path.stem for path in (config_dir() / group).glob("*.yaml")} - {"none"}
    assert set(WHEN[group]) == options
    spec = importlib.util.spec_from_file_location("method_pages", ROOT / "scripts" / "method_pages.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    for name, when in WHEN[group].items():
        text = pages.page(group, name, when)
        assert when in text
        assert "::: robustml." in text
