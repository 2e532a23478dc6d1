from __future__ import annotations

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.conftest import TINY
from integration.files import left
from integration.forks import Outcome, command
from robustml.results import read_results


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """One run that logs to both."""
    folder = tmp_path_factory.mktemp("logged")
    return command(
        "train", "experiment=digits_pgd", *TINY, "logger=wandb", *TENSORBOARD, "threat.eps=8/255", cwd=folder
    )


TENSORBOARD = (
    "+logger.tensorboard._target_=pytorch_lightning.loggers.TensorBoardLogger",
    "+logger.tensorboard.save_dir=${hydra:runtime.output_dir}",
    "+logger.tensorboard.name=tensorboard",
    "+logger.tensorboard.version=''",
)


@pytest.fixture
def rows(logged: Outcome) -> list[dict[str, str]]:
    with (logged.run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def records(path: Path) -> Iterator[bytes]:
    """What an offline file of wandb holds: after 7 bytes, LevelDB's log format in blocks of 32 KiB."""
    content, position, parts = path.read_bytes(), 7, []
    while position + 7 <= len(content):
        left_in_block = 32768 - position % 32768
        if left_in_block < 7:
            position += left_in_block
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        parts.append(content[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # whole, or the last of several parts
            yield b"".join(parts)
            parts = []


def read_wandb(path: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The history and the config of an offline run."""
    from wandb.proto import wandb_internal_pb2

    history, config = [], {}
    for data in records(path):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            history.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
        for update in (record.config, record.run.config):
            config |= {item.key: json.loads(item.value_json) for item in update.update if item.key}
    return history, config


@pytest.mark.filterwarnings("ignore::DeprecationWarning:google")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:wandb")
def test_wandb_offline_holds_the_figures_and_the_config(logged: Outcome, rows: list[dict[str, str]]) -> None:
    (path,) = logged.run.glob("wandb/offline-run-*/*.wandb")
    history, config = read_wandb(path)
    seen = [row["val/adversarial_accuracy"] for row in history if "val/adversarial_accuracy" in row]
    assert seen == pytest.approx([float(row["val/adversarial_accuracy"]) for row in rows])
    test = next(row for row in history if "test/worst_case" in row)
    results = read_results(logged.run / "results.json")
    assert test["test/worst_case"] == pytest.approx(results.worst_case.robust_accuracy.value)
    assert test["test/pgd"] == pytest.approx(results.attacks["pgd"].robust_accuracy.value)
    assert config["threat"]["eps"] == 8 / 255
    assert config["seed"] == 0
    shown = next(row for row in history if any(key.startswith("report") for key in row))
    assert {key.partition(".")[0] for key in shown} >= {"report", "attacks", "pictures"}
    media = path.parent / "files" / "media"
    (report,) = media.glob("html/report*.html")
    assert report.read_text() == (logged.run / "report.html").read_text()
    assert len(list(media.glob("images/*.png"))) == 8
    (table,) = media.glob("table/attacks*.json")
    assert [row[0] for row in json.loads(table.read_text())["data"]][-1] == "worst case"


def test_tensorboard_holds_the_figures(logged: Outcome, rows: list[dict[str, str]]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged.run / "tensorboard"))
    events.Reload()
    seen = [event.value for event in events.Scalars("val/adversarial_accuracy")]
    assert seen == pytest.approx([float(row["val/adversarial_accuracy"]) for row in rows])
    assert len(events.Scalars("test/worst_case")) == 1


def test_metrics_csv_is_written_as_without_loggers(logged: Outcome, rows: list[dict[str, str]]) -> None:
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert logged.out.splitlines()[-1].startswith("run: ")


def test_nothing_is_logged_outside_the_run(logged: Outcome) -> None:
    outputs = logged.run.parents[1]
    assert {path.name for path in outputs.parent.iterdir()} == {"outputs"}
    assert {path.parts[0] for path in map(Path, left(logged.run)) if len(path.parts) > 1} == {
        "checkpoints",
        "tensorboard",
        "wandb",
    }


def test_a_group_for_each_logger(tmp_path: Path) -> None:
    outcome = command("train", *TINY, "trainer.max_epochs=1", "logger=tensorboard", cwd=tmp_path)
    assert list(outcome.run.glob("tensorboard/events*"))


def test_evaluation_inside_training(tmp_path: Path) -> None:
    words = ["callbacks=robust_evaluation", "callbacks.robust_evaluation.every_n_epochs=2"]
    outcome = command("train", *TINY, *words, cwd=tmp_path)
    assert outcome.err == ""
    names = {name for name in left(outcome.run) if name.startswith("evaluation/")}
    assert names == {"evaluation/epoch-0002.json", "evaluation/epoch-0003.json"}
    block = json.loads((outcome.run / "evaluation" / "epoch-0003.json").read_text())
    assert block["split"] == "val"
    assert set(block["attacks"]) == {"fgsm", "pgd", "mifgsm"}
    assert block["clean_accuracy"]["n"] == 32
