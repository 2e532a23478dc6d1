from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from robustml.commands.hydra.words import literal_paths
from robustml.errors import pasteable

NAMES = [
    "a b",
    " a ",
    "äö日本",
    "a=b",
    "a,b",
    "[1]",
    "{x}",
    "it's",
    "it\\'s",
    'say "x"',
    "back\\slash",
    "end\\",
    "end\\\\",
    "(1)",
    "x:y",
    "a ${b}",
    "1",
    "1e5",
    "true",
    "~x",
    "a#b",
    "100%",
    "new\nline",
    "http://[::1]:8000",
]


def parsed(word: str) -> object:
    """What a config holds once Hydra has read the word."""
    override = OverridesParser.create().parse_override(word)
    return OmegaConf.to_container(OmegaConf.create({"key": override.value()}), resolve=True)["key"]  # type: ignore[index,call-overload]


@pytest.mark.parametrize(
    "key", ["run", "hydra.run.dir", "data.source.train", "data.source.label", "victim", "poison.trigger.file"]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_path_means_its_letters(key: str, name: str) -> None:
    if key == "data.source.train" and name == "[1]":
        return  # a list of files
    words = literal_paths([f"{key}={name}"])
    assert str(parsed(words[0])) == name
    assert literal_paths(words) == words, "quoting what is quoted changes nothing"


@pytest.mark.parametrize("name", [*NAMES[:13], "'quoted'", "${oc.env:HOME}"])
def test_what_exists_is_a_path_whatever_the_key(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    assert str(parsed(literal_paths([f"anything={name}"])[0])) == name


@pytest.mark.parametrize(
    "word",
    [
        "threat.eps=1/0",
        "callbacks=[health,ema]",
        "threat.eps=2/255,4/255",
        "data.root=null",
        "run=${oc.env:RUN}",
        "run='a b'",
        "data.source.train=[a.parquet,b.parquet]",
        "~callbacks.health",
        "-m",
        "--config-dir=a b",
        "seed=1",
        "compile=true",
        "twin=true",
    ],
)
def test_other_words_are_left_to_hydra(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("1", "true"):
        (tmp_path / name).mkdir()
    assert literal_paths([word]) == [word]


def test_a_multirun_over_paths_stays_a_list() -> None:
    assert literal_paths(["-m", "run=a,b"], sweeping=True) == ["-m", "run=a,b"]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_printed_can_be_pasted(name: str) -> None:
    assert shlex.split(pasteable("train", f"resume={name}")) == ["robustml", "train", f"resume={name}"]
