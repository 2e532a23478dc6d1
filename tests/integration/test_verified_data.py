"""`data.verify`: a run takes its data only as they were signed, heals what was changed, and carries the root along."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import load, load_file, save

import robustml
from integration.conftest import TRAINING
from integration.forks import Outcome, command
from robustml.data import DataModule, Digits
from robustml.errors import RequestError, RunFailed
from robustml.training.callbacks import Verification
from robustml.training.callbacks.verification import ROOT

SET = ("data=parquet", "data.source.train=set/train.parquet", "data.source.test=set/test.parquet")
VERIFIED = ("data.manifest=manifest", "data.trust=keys")
QUICK = (*TRAINING, "evaluation=clean", "trainer.enable_progress_bar=false")


def write(path: Path, rows: list[tuple[bytes, int]]) -> None:
    path.parent.mkdir(exist_ok=True)
    images = [{"bytes": content, "path": None} for content, _ in rows]
    pq.write_table(pa.table({"image": images, "label": [label for _, label in rows]}), path)


def read(path: Path) -> list[tuple[bytes, int]]:
    return [(row["image"]["bytes"], row["label"]) for row in pq.read_table(path).to_pylist()]


def relabelled(path: Path, row: int) -> None:
    """One label of a file is another one."""
    rows = read(path)
    rows[row] = (rows[row][0], (rows[row][1] + 1) % 10)
    write(path, rows)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed set in four places, and a run that was trained on it."""
    folder = tmp_path_factory.mktemp("signed")
    for part, count in (("train", 400), ("test", 100)):
        records = Digits().load(part)
        rows = []
        for x, y in zip(records.x[:count, 0], records.y[:count].tolist(), strict=True):
            Image.fromarray(x.numpy()).save(content := io.BytesIO(), "png")
            rows.append((content.getvalue(), y))
        write(folder / "set" / f"{part}.parquet", rows)
    for words in (
        ("keys", "new", "out=keys"),
        ("data", "manifest", *SET, "out=manifest"),
        ("data", "sign", "manifest=manifest", "key=keys"),
        ("data", "protect", *SET, "places=[a,b,c,d]", "need=2", "key=secret"),
        ("train", *QUICK, *SET, *VERIFIED, "data.verify=start", "output=trained"),
    ):
        outcome = command(*words, cwd=folder)
        assert outcome.status == 0, outcome.err
    return folder


@pytest.fixture
def place(first: Path, tmp_path: Path) -> Path:
    shutil.copytree(first, tmp_path / "copy")
    return tmp_path / "copy"


def run_of(place: Path) -> Path:
    return next((place / "trained").glob("*/*/results.json")).parent


def train(place: Path, *words: str) -> Outcome:
    return command("train", *QUICK, *SET, *VERIFIED, *words, "output=again", cwd=place)


def root_of(place: Path) -> str:
    root: str = json.loads((place / "manifest" / "manifest.json").read_text())["root"]
    return root


def test_the_root_travels_with_the_run(place: Path) -> None:
    run, root = run_of(place), root_of(place)
    signed: dict[str, Any] = json.loads((run / "results.json").read_text())["data"]["manifest"]
    assert (signed["root"], signed["verified"], signed["healed"]) == (root, "start", 0)
    assert signed["key"] == json.loads((place / "keys" / "trust.json").read_text())["keys"][0]["fingerprint"]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)[ROOT] == root
    header = (run / "model.safetensors").read_bytes()[8:4000]
    assert root.encode() in header
    card = command("card", str(run), cwd=place)
    assert card.status == 0, card.err
    assert json.loads((run / "card.json").read_text())["data"]["manifest"] == signed


@pytest.mark.parametrize("which", ["start", "always"])
def test_altered_data_are_refused_and_the_record_is_named(place: Path, which: str) -> None:
    relabelled(place / "set" / "train.parquet", 7)
    outcome = train(place, f"data.verify={which}")
    assert outcome.status == 1, outcome.out + outcome.err
    assert "train 7: label 3 -> 4" in outcome.error or "train 7" in outcome.error
    assert not list((place / "again").glob("*/*/results.json"))
    for verb in ("evaluate", "detect", "repair"):
        refused = command(verb, f"run={run_of(place)}", cwd=place)
        assert refused.status == 1, verb
        assert "train 7" in refused.error
    told_otherwise = command("evaluate", f"run={run_of(place)}", "data.verify=never", "evaluation=clean", cwd=place)
    assert told_otherwise.status == 0, told_otherwise.err
    assert "nobody vouches" in told_otherwise.out


def test_altered_data_are_healed_on_request(place: Path) -> None:
    paths = [place / "set" / f"{part}.parquet" for part in ("train", "test")]
    before = [path.read_bytes() for path in paths]
    relabelled(paths[0], 7)
    paths[1].unlink()
    shutil.rmtree(place / "b")
    outcome = train(place, "data.verify=start", "data.heal=true", "data.places=[a,b,c,d]", "data.key=secret")
    assert outcome.status == 0, outcome.err
    assert [path.read_bytes() for path in paths] == before
    assert json.loads((outcome.run / "results.json").read_text())["data"]["manifest"]["healed"] == 2
    assert "train 7" in outcome.out
    found, first = (json.loads((run / "results.json").read_text()) for run in (outcome.run, run_of(place)))
    assert found["data"]["fingerprints"] == first["data"]["fingerprints"]
    shutil.rmtree(place / "c")
    shutil.rmtree(place / "d")
    shutil.rmtree(place / "a")
    relabelled(paths[0], 7)
    lost = train(place, "data.verify=start", "data.heal=true", "data.places=[a,b,c,d]", "data.key=secret")
    assert lost.status == 1, lost.out
    assert paths[0].read_bytes() != before[0]


def test_a_cache_that_somebody_altered_is_not_believed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTML_CACHE", str(place / "kept"))
    assert train(place).status == 0
    entries = sorted((place / "kept").glob("*.safetensors"))
    assert entries
    for entry in entries:
        content = load_file(entry)
        content["x"] = 255 - content["x"]
        entry.write_bytes(save(content))
        digest = hashlib.sha256(entry.read_bytes()).hexdigest()
        entry.with_suffix(".sha256").write_text(f"{digest}  {entry.name}\n")
    fooled, outcome = train(place, "data.verify=never"), train(place, "data.verify=start")
    data = [json.loads((run / "results.json").read_text())["data"] for run in (run_of(place), fooled.run, outcome.run)]
    assert data[1]["fingerprints"] != data[0]["fingerprints"], "the cache is believed where nobody asks"
    assert data[2]["fingerprints"] == data[0]["fingerprints"]
    assert not torch.equal(load(entries[0].read_bytes())["x"], content["x"]), "and it was made anew"


def test_data_that_were_signed_anew_are_others_to_a_run(place: Path) -> None:
    relabelled(place / "set" / "train.parquet", 7)
    for words in (("manifest", *SET, "out=manifest"), ("sign", "manifest=manifest", "key=keys")):
        assert command("data", *words, cwd=place).status == 0
    outcome = command("evaluate", f"run={run_of(place)}", "evaluation=clean", cwd=place)
    assert outcome.status == 1, outcome.out
    assert "data.verify=never" in outcome.error


def test_records_that_change_in_memory_are_named() -> None:
    class Vouching:
        checked = 0

        def check(self, source: object) -> None:
            self.checked += 1

    data = DataModule(Digits(), name="digits", verify="always", manifest="m", trust="t")
    with pytest.raises(RequestError, match=r"robustml\.guarded"):
        data.setup()
    data.verify = "never"
    data.setup()
    data.verify, data.guard = "always", Vouching()  # type: ignore[assignment]
    callback: Any = Verification(data)
    for _ in range(2):
        callback.on_train_epoch_start(None, None)
    assert data.guard.checked == 1  # type: ignore[union-attr]
    data.trained_on.x[5, 0, 0, 0] ^= 1
    row = int(data.trained_on.ids[5])
    with pytest.raises(RunFailed, match=f"in memory since training began: train {row}$"):
        callback.on_train_epoch_start(None, None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("data.verify=begin",), "start"),
        (("data.verify=start", "data.trust=null"), "data.trust="),
        (("data.verify=start", "data.heal=true"), "data.places="),
        (("data.verify=start", "data.manifest=none"), "none"),
        (("data.verify=start", "data.trust=nobody"), "nobody"),
    ],
)
def test_wrong_requests(first: Path, words: tuple[str, ...], expected: str) -> None:
    outcome = command("train", *QUICK, *SET, *VERIFIED, *words, "output=wrong", cwd=first)
    assert outcome.status == 2, outcome.out + outcome.err
    assert expected in outcome.error


def test_lineage_holds_until_something_is_changed(place: Path) -> None:
    run = run_of(place)
    poisoned = command("train", *QUICK, *SET, *VERIFIED, "data.verify=start", "poison=badnets", "output=bad", cwd=place)
    assert poisoned.status == 0, poisoned.err
    repaired = command("repair", f"run={poisoned.run}", "twin=false", "method.epochs=1", cwd=place)
    assert repaired.status == 0, repaired.err
    assert command("card", str(repaired.run), cwd=place).status == 0
    assert command("model", "sign", f"run={repaired.run}", "key=keys", cwd=place).status == 0
    found = command("lineage", f"run={repaired.run}", "trust=keys", "out=evidence", cwd=place)
    assert found.status == 0, found.out + found.err
    steps = json.loads((place / "evidence" / "lineage.json").read_text())["steps"]
    kinds = ["data", "poison", "training", "signature", "repair", "card", "signature"]
    assert [step["kind"] for step in steps] == kinds
    assert all(link["holds"] for step in steps if step["kind"] != "signature" for link in step["links"])
    assert steps[-1]["links"][0]["holds"], "signed"
    assert not steps[3]["links"][0]["holds"], "the run before it was not"
    assert (place / "evidence" / "lineage.svg").read_text().startswith("<svg")
    assert robustml.lineage(run).broken == []

    def broken(path: Path, change: bytes) -> str:
        before, half = path.read_bytes(), path.stat().st_size // 2
        edited = before.replace(b"seed: 0", change)
        path.write_bytes(edited if b"seed" in change else before[:half] + change + before[half + len(change) :])
        outcome = command("lineage", f"run={repaired.run}", "trust=keys", cwd=place)
        path.write_bytes(before)
        assert outcome.status == 1, f"{path}: {outcome.out}"
        return "\n".join(line for line in outcome.out.split("\n") if line.startswith("broken: "))

    assert "began from the weights" in broken(poisoned.run / "model.safetensors", b"~~")
    assert "plan" in broken(poisoned.run / "poison.parquet", b"~~")
    assert "signed by" in broken(repaired.run / "config.yaml", b"seed: 1")
    assert "repair" in broken(repaired.run / "model.safetensors", b"~~")


def test_a_circle_of_runs_is_refused(place: Path) -> None:
    run = run_of(place)
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(f"{text}\nrun: {run}\nwhich: best\n")
    outcome = command("lineage", f"run={run}", cwd=place)
    assert outcome.status == 2, outcome.out
    assert "circle" in outcome.error


def test_a_manifest_of_another_set_is_told_in_a_line(place: Path) -> None:
    outcome = command(
        "train", *QUICK, *VERIFIED, "data.verify=start", "output=again", cwd=place
    )  # on the bundled digits
    assert outcome.status == 1, outcome.out
    assert "no record of digits is as signed" in outcome.error
    told = command("data", "verify", "data=digits", "manifest=manifest", "trust=keys", cwd=place)
    assert told.status == 1, told.err
    assert "no record is as signed (another set?)" in told.out


def test_no_secret_is_left_anywhere(place: Path) -> None:
    """A passphrase and a data key go into no file of a run, nothing that wandb keeps, no log and no line."""
    passphrase = "correct horse battery staple"
    secret = next((place / "secret").rglob("*")).read_bytes() if (place / "secret").is_dir() else b""
    relabelled(place / "set" / "train.parquet", 7)
    healing = ("data.verify=start", "data.heal=true", "data.places=[a,b,c,d]", "data.key=secret", "logger=wandb")
    with_secret = {
        "ROBUSTML_KEY_PASSPHRASE": passphrase,
        "ROBUSTML_AUDIT_LOG": "log.jsonl",
        "ROBUSTML_AUDIT_KEY": "own",
    }
    with_secret |= {"WANDB_MODE": "offline", "WANDB_DIR": str(place)}
    said = []
    for words in (
        ("keys", "new", "out=own"),
        ("train", *QUICK, *SET, *VERIFIED, *healing, "output=again"),
        ("data", "sign", "manifest=manifest", "key=own"),
    ):
        outcome = command(*words, cwd=place, env=with_secret)
        assert outcome.status == 0, outcome.err
        said.append(outcome.out + outcome.err)
    private = (place / "own" / "private.pem").read_bytes()
    assert b"ENCRYPTED" in private
    assert len(secret) > 16
    kept = (place / "own", place / "secret", place / "keys")
    files = [path for path in place.rglob("*") if path.is_file() and not any(path.is_relative_to(one) for one in kept)]
    assert place / "log.jsonl" in files
    assert any(path.suffix == ".wandb" for path in files)
    for content in [*(text.encode() for text in said), *(path.read_bytes() for path in files)]:
        assert passphrase.encode() not in content
        assert private.splitlines()[1] not in content
        assert secret[-16:] not in content
