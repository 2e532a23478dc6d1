"""`robustml <verb>`: dispatch, help, completion, configs; what a shell sees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from integration.forks import CLI, FOREIGN, command

from robustml import __version__
from robustml.cli import VERBS
from robustml.config import config_dir

ROOT = Path(__file__).parent.parent
HEAVY = ("torch", "hydra", "numpy", "pandas", "pytorch_lightning", "matplotlib")


def shell(*words: object, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A real process, and its imports on stderr where PYTHONPROFILEIMPORTTIME is set."""
    clean = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    return subprocess.run(
        [str(word) for word in words], cwd=cwd, env=clean | env, capture_output=True, text=True, check=False
    )


def imported(stderr: str) -> set[str]:
    lines = [line for line in stderr.splitlines() if line.startswith("import time:")]
    assert lines
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("words", [["--help"], [], ["--version"], ["trian"]])
def test_answers_at_once(words: list[str], tmp_path: Path) -> None:
    process = shell(CLI, *words, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert process.returncode == (2 if words == ["trian"] else 0)
    assert not imported(process.stderr) & set(HEAVY)
    if words == ["--version"]:
        assert process.stdout == f"{__version__}\n"
    elif words != ["trian"]:
        assert all(f"  {verb} " in process.stdout for verb in VERBS)
        assert "examples:" in process.stdout


def test_the_composed_config_is_printed_without_torch(tmp_path: Path) -> None:
    process = shell(CLI, "train", "--cfg", "job", "threat.eps=8/255", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert process.returncode == 0
    assert not imported(process.stderr) & (set(HEAVY) - {"hydra"})
    assert yaml.safe_load(process.stdout)["threat"]["eps"] == "8/255"
    assert list(tmp_path.iterdir()) == []


def test_python_dash_m(tmp_path: Path) -> None:
    process = shell(sys.executable, "-m", "robustml.cli", "--version", cwd=tmp_path)
    assert (process.returncode, process.stdout) == (0, f"{__version__}\n")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_examples(verb: str, tmp_path: Path) -> None:
    outcome = command(verb, "--help", cwd=tmp_path)
    assert (outcome.status, outcome.err) == (0, "")
    assert "examples:" in outcome.out
    assert f"robustml {verb}" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_train_help_names_every_group(tmp_path: Path) -> None:
    out = command("train", "--help", cwd=tmp_path).out
    for path in config_dir().glob("*/*.yaml"):
        assert path.stem in out
        assert f"{path.parent.name}: " in out
    assert out.index("seed: 0") < out.index("attack: apgd") < out.index("examples:")


def test_completion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = command("-sc", "install=bash", cwd=tmp_path)
    assert script.status == 0
    assert "complete " in script.out
    assert " robustml" in script.out
    for line, expected in (
        ("robustml tr", "train"),
        ("robustml train da", "data"),  # or data/extra
        ("robustml train data=cif", "data=cifar10"),
        ("robustml train threat.e", "threat.eps="),
        ("robustml evaluate attack=mi", "attack=mifgsm"),
        ("robustml evaluate eval", "evaluation="),
        ("robustml sweep train_eps experi", "experiment="),
        ("robustml train experiment=digits_", "experiment=digits_pgd"),
    ):
        monkeypatch.setenv("COMP_LINE", line)
        monkeypatch.setenv("COMP_POINT", str(len(line)))
        outcome = command("-sc", "query=bash", cwd=tmp_path)
        assert expected in outcome.out.split(), (line, outcome.out, outcome.err)


def test_completion_in_a_real_bash(tmp_path: Path) -> None:
    """What a user gets who evaluates the script and presses tab."""
    lines = [
        'eval "$(robustml -sc install=bash)"',
        "COMP_LINE='robustml train threat=' COMP_POINT=22 COMP_WORDS=(robustml train threat=) COMP_CWORD=2",
        "function=$(complete -p robustml | sed 's/.*-F \\([^ ]*\\).*/\\1/')",
        "$function",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    path = f"{CLI.parent}:{os.environ['PATH']}"
    process = shell("bash", "-c", "\n".join(lines), cwd=tmp_path, PATH=path)
    assert "linf" in process.stdout, process.stderr


def test_configs_are_listed_shown_and_copied(tmp_path: Path) -> None:
    listed = command("configs", cwd=tmp_path).out
    for path in config_dir().glob("*/*.yaml"):
        assert path.stem in listed
    shown = command("configs", "attack/pgd", cwd=tmp_path).out
    assert shown == (config_dir() / "attack" / "pgd.yaml").read_text()
    assert command("configs", "--copy", "mine", cwd=tmp_path).status == 0
    copied = {path.relative_to(tmp_path / "mine") for path in (tmp_path / "mine").rglob("*.yaml")}
    assert copied == {path.relative_to(config_dir()) for path in config_dir().rglob("*.yaml")}


def test_a_users_configs_are_found_beside_the_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "ours.yaml").write_text(
        "# @package _global_\ndefaults:\n  - digits_pgd\n  - override /threat: l2\nname: ours\nthreat: {eps: 0.5}\n"
    )
    for options in (["--config-dir", "mine"], ["--config-dir=mine"]):
        outcome = command("train", *options, "experiment=ours", "--cfg", "job", cwd=tmp_path)
        assert outcome.err == ""
        config = yaml.safe_load(outcome.out)
        assert (config["name"], config["threat"]["p"], config["threat"]["eps"]) == ("ours", 2, 0.5)


@pytest.mark.parametrize("verb", ["train", "evaluate", "sweep", "report"])
def test_the_scripts_are_the_verbs(verb: str, tmp_path: Path) -> None:
    process = shell(sys.executable, ROOT / "scripts" / f"{verb}.py", "--help", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert f"robustml {verb}" in process.stdout


@pytest.mark.slow
def test_a_script_trains_from_another_folder(tmp_path: Path) -> None:
    words = ["debug=fast", "evaluation=clean", "name=script"]
    process = shell(sys.executable, ROOT / "scripts" / "train.py", *words, cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.splitlines()[-1].startswith(f"run: {tmp_path / 'outputs' / 'script'}")


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    """`robustml train --help | head -1` prints no traceback."""
    line = f"{sys.executable} -m robustml.cli train --help | head -1"
    outcome = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert outcome.stdout.startswith("robustml train")
    assert outcome.stderr == ""
