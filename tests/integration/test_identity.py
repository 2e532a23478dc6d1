"""A run keeps the identity of its data: classes by name, records by content, whatever became of the files since."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from safetensors.torch import load_file

from integration.forks import Outcome, command
from robustml.data import Digits, ImageFolder, Lineage, record_digests
from robustml.data.splits import part_of, stratified_split

SMALL = (
    "model=mlp",
    "model.hidden=[16]",
    "objective=standard",
    "validation.monitor=clean",
    "validation.attack=null",
    "evaluation=clean",
    "trainer.max_epochs=3",
    "trainer.enable_progress_bar=false",
    "data.batch_size=16",
    "optimizer.lr=0.01",
)
NAMES = ["zero", "one", "two"]


def write_digits(path: Path, part: str, names: Sequence[str] | None) -> Path:
    """The digits 0 to 2 of one part as Parquet, coded in the order of `names`, or as text."""
    arrays = Digits().load(part)
    rows = [row for row, label in enumerate(arrays.y.tolist()) if label < 3]
    words = [NAMES[int(arrays.y[row])] for row in rows]
    labels = words if names is None else [list(names).index(word) for word in words]
    pictures = []
    for row in rows:
        stream = io.BytesIO()
        Image.fromarray(arrays.x[row, 0].numpy()).save(stream, "PNG")
        pictures.append({"bytes": stream.getvalue(), "path": None})
    table = pa.table({"image": pictures, "label": labels})
    if names is not None:
        features = {"label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)
    return path


def draw(folder: Path, first: int, count: int) -> None:
    """Pictures of two classes, dark and bright, none like another."""
    for name, level in (("bright", 200), ("dark", 20)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            random = np.random.RandomState(number * 2 + (level > 100))
            pixels = (level + random.randint(0, 40, (6, 6))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{random.randint(10**6):06}.png")


def data_of(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "results.json").read_text())
    flags = {flag["name"]: flag["message"] for flag in content["flags"]}
    accuracy = content["clean_accuracy"]
    return content["data"] | {"n": accuracy["n"], "accuracy": accuracy["value"], "flags": flags}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of 100 pictures, and a run on it."""
    folder = tmp_path_factory.mktemp("pictures")
    draw(folder / "all", 0, 50)
    words = ("data=image_folder", f"data.source.train={folder / 'all'}", "data.val_size=20", f"output={folder / 'out'}")
    return folder / "all", command("train", *words, *SMALL, cwd=folder).run


def test_a_folder_that_has_grown_is_not_judged_on_what_was_trained_on(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, run = pictures
    before, grown = ImageFolder(str(folder)), shutil.copytree(folder, tmp_path / "grown")
    draw(grown, 50, 130)
    x, y = (getattr(before.load("train"), name) for name in "xy")
    trained_or_selected, judged = (set(record_digests(part).tolist()) for part in (x, before.load("test").x))
    drawn = record_digests(ImageFolder(str(grown)).load("test").x).tolist()
    fresh = [record for record in drawn if record not in trained_or_selected]
    assert 0 < len(fresh) < len(drawn) == 72, "the split that is drawn anew has training pictures in its test part"

    outcome = command("evaluate", f"run={run}", f"data.source.train={grown}", cwd=tmp_path)
    facts = data_of(outcome.run)
    assert (facts["n"], facts["test"], facts["left_out"]) == (len(fresh), len(fresh), len(drawn) - len(fresh))
    assert f"{facts['left_out']} of 72 test records were trained" in facts["flags"]["changed_data"]
    new = len(set(fresh) - judged)
    assert f"{facts['left_out']} of 72 test records were trained or selected on, and are left out" in outcome.out
    assert f"of the rest, {new} are new" in outcome.out
    assert stratified_split(y, 20, 0)[0].numel() + 20 == len(trained_or_selected)

    unchanged = command("evaluate", f"run={run}", cwd=tmp_path)
    assert "note:" not in unchanged.out
    assert data_of(unchanged.run) == data_of(run)
    assert data_of(run).get("left_out") is None


def test_a_test_part_of_training_records_alone_is_refused(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = pictures
    only = tmp_path / "only"
    files = sorted(path for path in folder.rglob("*.png"))
    trained = part_of(ImageFolder(str(folder), str(folder)).load("train").y, "train").tolist()
    for row in trained[:5] + trained[-5:]:
        (only / files[row].parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(files[row], only / files[row].parent.name / f"renamed {files[row].name}")
    outcome = command("evaluate", f"run={run}", f"data.source.test='{only}'", cwd=tmp_path)
    assert outcome.status == 2
    assert "was trained on all 10 test records" in outcome.error


def test_a_run_is_not_resumed_on_other_data(tmp_path: Path) -> None:
    draw(tmp_path / "all", 0, 30)
    words = ("data=image_folder", f"data.source.train={tmp_path / 'all'}", "data.val_size=10")
    run = command("train", *words, *SMALL, "trainer.max_epochs=1", cwd=tmp_path).run
    draw(tmp_path / "all", 30, 1)
    outcome = command("train", f"resume={run}", "trainer.max_epochs=2", cwd=tmp_path)
    assert outcome.status == 2
    assert "have changed since it began (other records in: train, val, test)" in outcome.error


@pytest.mark.parametrize("kind", ["csv", "text"])
def test_inputs_that_mean_something_else_are_refused(kind: str, tmp_path: Path) -> None:
    """Columns are scaled and words chosen by the training part: another one, and the model sees other inputs."""
    rows = [(word, row % 2) for row, word in enumerate(f"word{row % 17} more{row % 5}" for row in range(60))]
    header = "a,b,label\n" if kind == "csv" else "text,label\n"
    lines = [
        f"{row * 7 % 60 / 2},{row % 7},{y}\n" if kind == "csv" else f"{text},{y}\n"
        for row, (text, y) in enumerate(rows)
    ]
    larger = "900,3,1\n" if kind == "csv" else "entirely new words,1\n"
    for name, body in (("a.csv", lines), ("more.csv", [*lines, larger]), ("test.csv", [*lines[:3], larger])):
        (tmp_path / name).write_text(header + "".join(body))
    few = ["data.source.features=5"] if kind == "text" else []
    run = command("train", f"data={kind}", "data.source.train=a.csv", *few, *SMALL, cwd=tmp_path).run
    outcome = command("evaluate", f"run={run}", "data.source.train=more.csv", cwd=tmp_path)
    assert outcome.status == 2
    assert "the training part decides on what the inputs mean" in outcome.error
    assert "data.source.test" in outcome.error


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of the same three digits, coded in several ways, and a run on the first."""
    folder = tmp_path_factory.mktemp("named")
    for part in ("train", "test"):
        write_digits(folder / "first" / f"{part}.parquet", part, NAMES)
        write_digits(folder / "other order" / f"{part}.parquet", part, NAMES[::-1])
        write_digits(folder / "text" / f"{part}.parquet", part, None)
        write_digits(folder / "with more" / f"{part}.parquet", part, ["nought", *sorted(NAMES)])
    run = command(
        "train", "data=parquet", *source(folder / "first"), *SMALL, f"output={folder / 'out'}", cwd=folder
    ).run
    return folder, run


def source(folder: Path) -> list[str]:
    return [f"data.source.{part}='{folder}/{part}.parquet'" for part in ("train", "test")]


def evaluated(run: Path, words: list[str], cwd: Path) -> Outcome:
    return command("evaluate", f"run={run}", *words, cwd=cwd)


def tuned(run: Path, words: list[str], cwd: Path) -> Outcome:
    rest = ("evaluation=clean", "trainer.max_epochs=1", "optimizer.lr=0", "trainer.enable_progress_bar=false")
    return command("finetune", f"run={run}", "data=parquet", *words, *rest, "validation.monitor=clean", cwd=cwd)


def copied(run: Path, words: list[str], cwd: Path) -> Outcome:
    rest = ("training.steps=5", "curve=[]", "transfer_limit=5", "attack.steps=1", "model@student=mlp", "budget=20")
    return command("extract", f"victim={run}", "data=parquet", *words, *rest, "pool=noise", cwd=cwd)


@pytest.mark.parametrize(
    ("how", "verb"),
    [
        ("other order", evaluated),
        ("text", evaluated),
        ("with more", evaluated),
        ("other order", tuned),
        ("other order", copied),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_labels_of_another_set_are_those_of_the_run_by_name(
    how: str, verb: Callable[..., Outcome], named: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, run = named
    own = data_of(run)
    assert yaml.safe_load((run / "config.yaml").read_text())["data"]["class_names"] == NAMES
    assert own["accuracy"] > 0.9
    outcome = verb(run, source(folder / how), tmp_path)
    found = data_of(outcome.run)
    assert found["fingerprints"]["test"] == own["fingerprints"]["test"]
    if verb is copied:
        content = json.loads((outcome.run / "results.json").read_text())
        assert content["extraction"]["victim_accuracy"]["value"] == own["accuracy"]
    else:
        assert found["accuracy"] == own["accuracy"]
    assert yaml.safe_load((outcome.run / "config.yaml").read_text())["data"]["class_names"] == NAMES


def test_a_set_that_lacks_or_adds_classes_is_told_so(named: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = named
    table = pq.read_table(folder / "text" / "test.parquet")
    labels = table["label"].to_pylist()
    pq.write_table(table.filter(pa.array([label != "one" for label in labels])), tmp_path / "fewer.parquet")
    outcome = command("evaluate", f"run={run}", f"data.source.test={tmp_path / 'fewer.parquet'}", cwd=tmp_path)
    assert "note:   no test sample of 1 of 3 classes: one" in outcome.out
    assert data_of(outcome.run)["n"] == sum(label != "one" for label in labels)

    strange = table.set_column(1, "label", pa.array(["eleven", *labels[1:]]))
    pq.write_table(strange, tmp_path / "strange.parquet")
    outcome = command("finetune", f"run={run}", f"data.source.test={tmp_path / 'strange.parquet'}", cwd=tmp_path)
    assert outcome.status == 2
    assert "the label 'eleven' is no training class" in outcome.error


def test_runs_of_former_versions_and_damaged_lists(named: tuple[Path, Path], tmp_path: Path) -> None:
    _, run = named
    old = shutil.copytree(run, tmp_path / "old")
    settings = yaml.safe_load((old / "config.yaml").read_text())
    del settings["data"]["class_names"]
    (old / "config.yaml").write_text(yaml.safe_dump(settings))
    (old / "records.safetensors").write_bytes(b"no such thing")
    outcome = command("evaluate", f"run={old}", cwd=tmp_path)
    assert outcome.status == 2
    assert "records.safetensors is damaged: it is no list of records" in outcome.error
    (old / "records.safetensors").unlink()
    outcome = command("evaluate", f"run={old}", cwd=tmp_path)
    assert "of a former version, does not tell its training records" in outcome.out
    assert data_of(outcome.run)["accuracy"] == data_of(run)["accuracy"]


def test_what_a_tuned_model_was_first_trained_on_is_remembered(named: tuple[Path, Path], tmp_path: Path) -> None:
    folder, run = named
    words = [f"data.source.{part}='{folder}/text/test.parquet'" for part in ("train", "test")]
    outcome = command(
        "finetune", f"run={run}", *words, "evaluation=clean", "trainer.max_epochs=1", "validation.monitor=clean",
        "trainer.enable_progress_bar=false", cwd=tmp_path,
    )  # fmt: skip
    records = Lineage.from_bytes((outcome.run / "records.safetensors").read_bytes())
    first = load_file(run / "records.safetensors")
    assert set(records.before.tolist()) == {*first["train"].tolist(), *first["val"].tolist()}
    assert "test records have an equal one among those to train on" in outcome.out
