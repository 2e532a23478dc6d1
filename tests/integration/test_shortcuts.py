"""`robustml shortcuts` and `balance=groups`: a mark that goes with a class is found, and groups of one size undo it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.tiny import png, write_parquet
from pydantic import ValidationError

import robustml
from integration.files import left
from integration.forks import Outcome, command
from robustml.results import ShortcutSearch, read_results

QUICK = (
    "data=parquet",
    "data.source.train=train.parquet",
    "data.source.test=test.parquet",
    "data.val_size=0",
    "data.batch_size=40",
    "optimizer.lr=0.01",
    "scheduler=none",
    "model=mlp",
    "model.hidden=[]",
    "objective=standard",
    "evaluation=clean",
    "trainer.enable_progress_bar=false",
)
MARKED = ("poison=shortcut", "poison.trigger.size=2", "poison.target=bright")


def write_pictures(folder: Path) -> None:
    """Noise whose upper half is a little brighter in one class: to be learnt, but less easily than a white corner."""
    for part, count, seed in (("train", 800, 0), ("test", 300, 1)):
        random = np.random.RandomState(seed)
        labels = [row % 2 for row in range(count)]
        pixels = random.randint(0, 200, (count, 8, 8))
        pixels[:, :4] += 40 * np.array(labels)[:, None, None]
        write_parquet(
            folder / f"{part}.parquet", [png(each.astype(np.uint8)) for each in pixels], labels, ["dark", "bright"]
        )


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    folder = tmp_path_factory.mktemp("marked")
    write_pictures(folder)
    outcome = command("train", *QUICK, *MARKED, "twin=true", "trainer.max_epochs=6", cwd=folder)
    assert outcome.status == 0, outcome.err
    return outcome


@pytest.fixture(scope="module")
def search(marked: Outcome) -> Outcome:
    outcome = command("shortcuts", f"run={marked.run}", "stride=1", cwd=folder_of(marked), drawn=True)
    assert outcome.status == 0, outcome.err
    return outcome


def folder_of(marked: Outcome) -> Path:
    return marked.run.parents[2]


def report_of(outcome: Outcome) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((outcome.run / "shortcuts.json").read_text())
    assert json.loads(ShortcutSearch.model_validate(report).model_dump_json(by_alias=True)) == report
    with pytest.raises(ValidationError, match="Extra inputs"):
        ShortcutSearch.model_validate(report | {"more": 1})
    return report


def test_the_mark_is_found_in_the_run_and_not_in_its_twin(search: Outcome, marked: Outcome) -> None:
    report = report_of(search)
    assert search.run.parent == marked.run / "shortcuts"
    assert left(search.run) == {"config.yaml", "shortcuts.html", "shortcuts.json"}
    bright = next(each for each in report["suspects"] if each["class"] == "bright")
    assert (bright["found"], bright["place"], bright["size"]) == (True, [6, 6], 2)
    assert bright["flip_rate"]["value"] > 0.8
    assert bright["flip_rate"]["n"] <= 100
    assert report["twin_suspects"]
    assert not any(each["found"] for each in report["twin_suspects"])
    assert "a patch at [6, 6] turns" in search.out
    assert "clean twin:\nno shortcut found" in search.out
    page = (search.run / "shortcuts.html").read_text()
    assert page.count("<figure>") == 2
    assert page.count("<image") == 2 * 2 * 4 + 2, "a map and three pictures a class and model, and two scales"


def test_the_shares_are_counted_over_all_places(search: Outcome) -> None:
    for each in report_of(search)["suspects"]:
        shares = {(row, column): share for row, column, share in each["flip_rates"]}
        assert set(shares) == {(row, column) for row in range(7) for column in range(7)}
        assert max(shares.values()) == shares[tuple(each["place"])] == pytest.approx(each["flip_rate"]["value"])
        assert each["excess"] == pytest.approx(max(shares.values()) - sorted(shares.values())[24])


def test_a_run_without_a_twin(marked: Outcome) -> None:
    twin = next((folder_of(marked) / "outputs" / "twins").iterdir())
    outcome = command("shortcuts", f"run={twin}", "pictures=20", "size=3", cwd=folder_of(marked))
    assert outcome.status == 0, outcome.err
    assert "no clean twin" in outcome.out
    assert report_of(outcome)["twin_suspects"] == []


def test_python_measures_the_mark_with_and_without_a_directory(
    marked: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder_of(marked))
    run = robustml.load_run(marked.run)
    alone = robustml.evaluate(run, attacks={})
    written = robustml.evaluate(run, attacks={}, out=tmp_path / "again")
    assert alone.model_dump() == written.model_dump()
    assert alone.backdoor == read_results(tmp_path / "again").backdoor
    assert alone.backdoor is not None
    assert (alone.backdoor.kind, alone.backdoor.attack_success_rate.n) == ("shortcuts", 150)
    assert alone.backdoor.twin is not None
    assert alone.backdoor.shortcut is not None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "shortcuts needs a run directory"),
        ("run=none", "there is no run directory none"),
        ("run={run} size=9", "from 1 to 8"),
        ("run={run} threshold=2", "threshold must be at most 1, got 2"),
        ("run={run} treshold=0.5", "'threshold'"),
    ],
)
def test_wrong_requests(words: str, expected: str, marked: Outcome) -> None:
    before = left(marked.run)
    outcome = command("shortcuts", *words.format(run=marked.run).split(), cwd=folder_of(marked))
    assert outcome.status == 2, outcome.out + outcome.err
    assert expected in outcome.error
    assert left(marked.run) == before


def test_only_pictures_are_searched(tmp_path: Path) -> None:
    rows = ["a,b,label", *(f"{row / 40},{row % 7},{row % 2}" for row in range(40))]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    words = ["data=csv", "data.source.train=rows.csv", "data.source.label=label", "model=mlp", "objective=standard"]
    run = command("train", *words, "evaluation=clean", "debug=fast", "data.val_size=0", cwd=tmp_path)
    assert run.status == 0, run.err
    outcome = command("shortcuts", f"run={run.run}", cwd=tmp_path)
    assert outcome.status == 2
    assert "needs images" in outcome.error


def worst_group(run: Outcome) -> float:
    backdoor = read_results(run.run).backdoor
    assert backdoor is not None
    assert backdoor.shortcut is not None
    return float(backdoor.shortcut.worst_group.accuracy.value or 0)


def test_groups_of_one_size_win_the_worst_group_back(marked: Outcome) -> None:
    # of the 400 rows of a class 392 are in one group and 8 in the other
    words = [*QUICK, *MARKED, "balance=groups", "balance.size=largest", "trainer.max_epochs=6"]
    balanced = command("train", *words, cwd=folder_of(marked))
    assert balanced.status == 0, balanced.err
    assert "balance: 4 groups of one size, 800 rows become 1,568" in balanced.out
    assert read_results(balanced.run).data.train == 1568
    fair = command("train", *QUICK, *MARKED, "poison.correlation=0.5", "trainer.max_epochs=6", cwd=folder_of(marked))
    misled, mended, best = (worst_group(run) for run in (marked, balanced, fair))
    print(f"worst group: misled {misled:.3f}, balanced {mended:.3f}, a mark that says nothing {best:.3f}")
    assert best - misled >= 0.2
    assert mended - misled >= (best - misled) / 2
    again = command("evaluate", f"run={balanced.run}", cwd=folder_of(marked))
    assert again.status == 0, again.err
    assert read_results(again.run).data == read_results(balanced.run).data


def test_classes_are_balanced_where_nothing_is_poisoned(tmp_path: Path) -> None:
    rows = ["a,b,label", *(f"{row / 90},{row % 7},{int(row < 20)}" for row in range(90))]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")
    words = ["data=csv", "data.source.train=rows.csv", "data.source.test=rows.csv", "data.source.label=label"]
    words += ["model=mlp", "objective=standard", "evaluation=clean", "debug=fast", "data.val_size=0"]
    outcome = command("train", *words, "balance=groups", cwd=tmp_path)
    assert outcome.status == 0, outcome.err
    assert "balance: 2 groups of one size, 90 rows become 40" in outcome.out
    refused = command("train", *words, "balance=groups", "balance.size=middle", cwd=tmp_path)
    assert refused.status == 2
    assert "expected largest or smallest" in refused.error
