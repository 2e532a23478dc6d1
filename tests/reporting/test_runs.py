"""Run directories with everything, with the minimum, and with broken files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustml.errors import RequestError
from robustml.reporting.runs import find_runs, labels, read_run

from .conftest import MakeRun, write_examples


def test_full_and_minimal_runs(make_run: MakeRun) -> None:
    full, bare = read_run(make_run("full")), read_run(make_run("bare", full=False))
    assert full.metrics is not None
    assert list(full.metrics["epoch"]) == list(range(1, 31))
    assert full.train_eps == pytest.approx(8 / 255)
    assert full.examples is not None
    assert full.examples.attack == "pgd"
    assert (bare.metrics, bare.config_text, bare.examples, bare.train_eps) == (None, None, None, None)


def test_find_runs_passes_hidden_folders_over(make_run: MakeRun, tmp_path: Path) -> None:
    for name in ("b", "a/deep", ".cache/c"):
        make_run(name, full=False)
    assert [run.path.relative_to(tmp_path).as_posix() for run in find_runs(tmp_path)[0]] == ["a/deep", "b"]
    with pytest.raises(RequestError, match="not a folder"):
        find_runs(tmp_path / "absent")


def test_labels_tell_runs_apart_without_machine_paths(make_run: MakeRun, tmp_path: Path) -> None:
    one, two = read_run(make_run("a/1", full=False)), read_run(make_run("a/2", full=False))
    three = read_run(make_run("c", full=False, experiment="standard", seed=4))
    four = read_run(make_run("d", full=False, experiment="standard", seed=5))
    assert labels([one, three]) == ["trades_linf", "standard"]
    assert labels([three, four]) == ["standard, seed 4", "standard, seed 5"]
    assert labels([one, two, three]) == ["trades_linf (1)", "trades_linf (2)", "standard"]


def test_a_resumed_epoch_counts_once(make_run: MakeRun) -> None:
    folder = make_run(full=False)
    (folder / "metrics.csv").write_text("epoch,val/loss\n0,2\n1,1.5\n1,1.4\n2,1\n")
    metrics = read_run(folder).metrics
    assert metrics is not None
    assert list(metrics["val/loss"]) == [2, 1.4, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", b"a: [", "not valid YAML"),
        ("config.yaml", b"- a", "must hold a YAML mapping"),
        ("examples.npz", b"nothing", "cannot be read"),
        ("metrics.csv", b'epoch,a\n1,2\n1,2,3,4\n"', "comma-separated"),
    ],
)
def test_broken_files_are_named(name: str, content: bytes, message: str, make_run: MakeRun) -> None:
    folder = make_run(full=False)
    (folder / name).write_bytes(content)
    with pytest.raises(RequestError, match=message) as refusal:
        read_run(folder)
    assert name in str(refusal.value)


def test_examples_must_agree(make_run: MakeRun) -> None:
    folder = make_run(full=False)
    np.savez(folder / "examples.npz", x=np.zeros((2, 3)))
    with pytest.raises(RequestError, match="lacks an array"):
        read_run(folder)
    write_examples(folder)
    with np.load(folder / "examples.npz") as arrays:
        content = dict(arrays)
    np.savez(folder / "examples.npz", **(content | {"y": np.zeros(3, dtype=int)}))
    with pytest.raises(RequestError, match="differ in length"):
        read_run(folder)


def test_pickled_arrays_are_refused(make_run: MakeRun) -> None:
    folder = make_run(full=False)
    np.savez(folder / "examples.npz", x=np.array([{}], dtype=object), y=np.zeros(1, dtype=int))
    with pytest.raises(RequestError, match="cannot be read"):
        read_run(folder)
