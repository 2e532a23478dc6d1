from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from robustml.commands.hydra.composing import plain
from robustml.errors import RequestError
from robustml.numbers import number
from robustml.workflows.settings import read_settings, write_settings
from robustml.workflows.settings.building import build, plain_target


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), (" 2 / 255 ", 2 / 255), ("0.3", 0.3), (1, 1.0), ("1e-3", 0.001)]
)
def test_number(text: Any, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize("text", ["a/b", "1/0", "", None, "8/255/2"])
def test_what_is_no_number(text: Any) -> None:
    with pytest.raises(RequestError, match="8/255"):
        number(text)


def test_plain_turns_fractions_into_numbers_and_leaves_other_words_alone() -> None:
    config = OmegaConf.create(
        {"eps": "8/255", "copy": "${eps}", "list": ["1/2", 3], "path": "a/b", "date": "2026/01/02", "none": None}
    )
    assert plain(config) == {
        "eps": 8 / 255, "copy": 8 / 255, "list": [0.5, 3], "path": "a/b", "date": "2026/01/02", "none": None,
    }  # fmt: skip


def test_build() -> None:
    assert build(None) is None
    assert build({"_target_": "builtins.dict", "a": [1, 2]}) == {"a": [1, 2]}
    assert plain_target({"_target_": "robustml.models.MLP"}) == "MLP"


def test_settings_survive_being_written(tmp_path: Path) -> None:
    settings = {"eps": 8 / 255, "p": "inf", "name": "Größe", "nothing": None, "list": [1, 2.5], "on": True}
    write_settings(settings, tmp_path / "config.yaml")
    assert read_settings(tmp_path) == settings
