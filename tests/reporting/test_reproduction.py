"""Verdicts, intervals and figures of a reproduction, against sums done by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from robustml.errors import RequestError
from robustml.reporting.figures.health import health_of_variants
from robustml.reporting.formats import NOTHING
from robustml.reporting.pages.reproduction import write_reproduction_page
from robustml.reporting.reproduction.finished import Finished, read_finished
from robustml.reporting.reproduction.tables import cost_text, papers_text, reproduction_text, run_table, summary
from robustml.reporting.reproduction.verdicts import compare, judge_figure
from robustml.results import write_checked
from robustml.results.paper import Budget, Figure, Paper, Published, read_paper
from robustml.results.reproduction import Reproduction, SeedRun, read_reproduction

from .conftest import counted
from .markup import HOSTILE, read_page

BLOCK: dict[str, Any] = {
    "id": "one2020",
    "title": "One",
    "citation": "One, 2020",
    "fidelity": "exact",
    "budget": {"device": "cpu2", "minutes": 1},
    "published": [
        {"metric": "robust_accuracy@pgd", "value": 0.45, "tolerance": 0.03, "seen": "repo", "source": "its README"}
    ],
    "shown": [{"metric": "clean_accuracy"}],
}
PAPER = read_paper(BLOCK, "one2020")


def finished(folder: Path, clean: float, robust: float, **files: str) -> Finished:
    folder.mkdir(parents=True)
    results = {
        "schema": 1,
        "command": "train",
        "experiment": "one2020",
        "seed": 0,
        "data": {"name": "mnist", "fingerprint": "sha256:0", "train": 9, "val": 5, "test": 1000, "poison": None},
        "model": {"name": "Net", "parameters": 1, "sha256": "sha256:1"},
        "threat": {"norm": "inf", "eps": 0.3},
        "clean_accuracy": counted(round(1000 * clean), 1000),
        "attacks": {"pgd": {"robust_accuracy": counted(round(1000 * robust), 1000), "max_norm": 0.3, "seconds": 1.0}},
        "selection": {
            "monitor": "val/clean_accuracy",
            "best": {"epoch": 2, "step": 20},
            "last": {"epoch": 3, "step": 30},
        },
    }
    (folder / "results.json").write_text(json.dumps(results))
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return read_finished(folder)


def runs(values: list[float], collapsed: tuple[int, ...] = ()) -> list[SeedRun]:
    return [
        SeedRun(
            variant="main",
            seed=seed,
            folder=f"main/seed-{seed}",
            figures={"robust_accuracy@pgd": value, "clean_accuracy": 0.9},
            collapsed=seed in collapsed,
        )
        for seed, value in enumerate(values)
    ]


def reproduction(folder: Path, values: list[float], collapsed: tuple[int, ...] = ()) -> Reproduction:
    known = {("main", seed): finished(folder / str(seed), 0.9, value) for seed, value in enumerate(values)}
    return compare(PAPER, runs(values, collapsed), known, ["trainer.max_epochs=1"])


def test_mean_spread_interval_and_difference(tmp_path: Path) -> None:
    row = reproduction(tmp_path, [0.44, 0.45, 0.49]).comparisons[0]
    assert row.mean == pytest.approx(0.46)
    assert row.spread == pytest.approx(0.0264575, abs=1e-6)  # sqrt((.02^2 + .01^2 + .03^2) / 2)
    assert row.n == 1000
    # Wilson by hand: (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n) with p .46, n 1000, z 1.959964
    assert row.ci95 == pytest.approx((0.429321, 0.490985), abs=1e-6)
    assert row.difference == pytest.approx(0.01)
    assert row.verdict == "match"


@pytest.mark.parametrize(
    ("mean", "ci95", "collapsed", "verdict"),
    [
        (0.48, (0.45, 0.51), False, "match"),  # at the tolerance, and the published figure on the interval's end
        (0.48, (0.451, 0.51), False, "within tolerance"),
        (0.42, None, True, "within tolerance"),
        (0.481, (0.40, 0.56), False, "off"),  # the interval excuses nothing
        (0.10, (0.08, 0.12), True, "collapsed"),
        (None, None, False, "not measured"),
    ],
)
def test_verdicts(mean: float | None, ci95: tuple[float, float] | None, collapsed: bool, verdict: str) -> None:
    published = PAPER.published[0]
    assert isinstance(published, Published)
    assert judge_figure(published, [] if mean is None else [mean], ci95, collapsed) == verdict


def test_a_mean_near_which_no_seed_lies_reproduces_nothing() -> None:
    published = PAPER.published[0]
    assert isinstance(published, Published)
    assert judge_figure(published, [0.2, 0.7], (0.42, 0.48), False) == "off"
    assert judge_figure(published, [0.45, 0.2, 0.7], (0.42, 0.48), False) == "match"


def test_a_collapsed_seed_is_named_and_the_others_are_averaged_too(tmp_path: Path) -> None:
    outcome = reproduction(tmp_path, [0.45, 0.0, 0.47], collapsed=(1,))
    row = outcome.comparisons[0]
    assert (row.verdict, row.collapsed_seeds) == ("collapsed", [1])
    assert row.mean == pytest.approx(0.92 / 3)
    assert row.healthy == pytest.approx(0.46)
    assert outcome.missed == ["main robust_accuracy@pgd: collapsed"]
    text = reproduction_text(outcome, 120)
    assert "collapsed (seed 1; 46.00 without)" in reproduction_text(outcome, 140)
    assert "COLLAPSED" in text
    page = read_page(write_reproduction_page(outcome, tmp_path / "page.html"))
    compared = page.table("Ours against the paper's")["robust_accuracy@pgd"]
    assert (compared["paper"], compared["ours"]) == ("45.00", "30.67 ± 26.58")
    assert compared["verdict"] == "collapsed (seed 1; 46.00 without)"
    assert "1 of 3 runs lost their robustness" in page.text
    assert "0 of 1 published figures" in page.text


def test_what_has_no_target_misses_nothing(tmp_path: Path) -> None:
    outcome = reproduction(tmp_path, [0.45])
    assert [row.verdict for row in outcome.comparisons] == ["match", "no target"]
    assert outcome.comparisons[0].spread is None
    assert outcome.missed == []


def test_what_nobody_measured_is_said(tmp_path: Path) -> None:
    missing = BLOCK["published"][0] | {"metric": "robust_accuracy@autoattack"}
    paper = read_paper(BLOCK | {"published": [*BLOCK["published"], missing]}, "one2020")
    known = {("main", 0): finished(tmp_path / "run", 0.9, 0.45)}
    outcome = compare(paper, runs([0.45]), known, [])
    assert (outcome.missed, outcome.unmeasured) == ([], ["robust_accuracy@autoattack"])
    said = "1 of 1 published figures were met within their tolerance. Not measured: robust_accuracy@autoattack."
    assert summary(outcome) == said
    assert said in read_page(write_reproduction_page(outcome, tmp_path / "page.html")).text
    assert summary(compare(paper, [], {}, [])) == (
        "There is no verified published figure to compare with: the tables stand by themselves."
    )
    several = paper.model_copy(
        update={"variants": [*paper.variants, paper.variants[0].model_copy(update={"name": "b"})]}
    )
    both = [*runs([0.45]), runs([0.45])[0].model_copy(update={"variant": "b"})]
    assert compare(several, both, known, []).unmeasured == ["main robust_accuracy@autoattack"]


@pytest.mark.parametrize(("collapsed", "verdict"), [(False, "off"), (None, "not measured")])
def test_a_published_collapse_that_did_not_come_is_off_where_it_was_looked_for(
    collapsed: bool | None, verdict: str
) -> None:
    figure = BLOCK["published"][0] | {"metric": "collapse_epoch", "value": 6, "tolerance": 6}
    paper = read_paper(BLOCK | {"published": [figure]}, "one2020")
    run = SeedRun(variant="main", seed=0, folder="main/seed-0", collapsed=collapsed)
    assert compare(paper, [run], {}, []).comparisons[0].verdict == verdict


@pytest.mark.parametrize(
    ("minutes", "text"),
    [(15, "15 min"), (119, "119 min"), (150, "2 h 30 min"), (2880, "48 h 00 min"), (20000, "14 days")],
)
def test_costs_in_the_unit_that_reads_best(minutes: float, text: str) -> None:
    paper = PAPER.model_copy(update={"budget": Budget(device="h200", minutes=minutes)})
    assert cost_text(paper) == f"one H200, ~{text} a seed"


def test_papers_fit_the_terminal() -> None:
    title = "A title of many words that goes on and on, well beyond what a terminal has room for"
    papers = [PAPER, PAPER.model_copy(update={"title": title})]
    assert title in papers_text(papers, 200)
    for width in (80, 110):
        lines = papers_text(papers, width).splitlines()
        assert max(map(len, lines)) <= width
        assert "one2020  A title" in "\n".join(lines)


def test_every_seed_has_a_row() -> None:
    (few,) = runs([0.45])
    other = few.model_copy(update={"variant": "b", "failed": "killed"})
    table = run_table([few, other])
    assert list(table.headings) == ["run", "robust_accuracy@pgd", "clean_accuracy", "health", "training"]
    assert [[cell.text for cell in row] for row in table.cells] == [
        ["main seed 0", "45.00", "90.00", "healthy", NOTHING],
        ["b seed 0", "45.00", "90.00", "failed", NOTHING],
    ]


def test_the_health_of_variants_side_by_side(tmp_path: Path) -> None:
    table = finished(tmp_path / "run", 0.9, 0.5, health=HEALTH).run.health
    assert table is not None
    sound = table[table["healthy"] == 1]
    assert health_of_variants({}) == ""
    # The marks alone have these dots: one in each of the two axes of a seed that collapsed, and one in the legend.
    collapsed = health_of_variants({("a", 0): table, ("a", 1): table, ("b", 0): sound})
    assert collapsed.count("stroke-dasharray") == 5
    assert health_of_variants({("a", 0): sound, ("b", 0): sound}).count("stroke-dasharray") == 1
    assert collapsed.count("<svg") == 1
    for title in ("a, seeds 0, 1", "b, seed 0"):
        assert title in collapsed
    four = health_of_variants({(name, 0): sound for name in "abcd"})
    assert all(f"{name}, seed 0" in four for name in "abcd")
    for figure, drawn in ((collapsed, True), ("", False)):
        outcome = reproduction(tmp_path / str(drawn), [0.45])
        page = read_page(write_reproduction_page(outcome, tmp_path / "page.html", figure))
        assert ("What became of each variant in training" in page.headings) == drawn


METRICS = "epoch,val/adversarial_accuracy\n1,0.2\n2,0.5\n3,0.4\n"
COLUMNS = "epoch,step,fgsm_accuracy,pgd_accuracy,gradient_alignment,healthy,action\n"
HEALTH = COLUMNS + "1,1,0.2,0.1,0.9,1,\n1,2,0.4,0.3,0.9,1,\n2,3,0.8,0.0,0.5,0,warn\n3,4,0.6,0.1,0.2,0,warn\n"


def test_figures_of_curves(tmp_path: Path) -> None:
    run = finished(tmp_path / "run", 0.9, 0.5, metrics=METRICS, health=HEALTH)

    def value(metric: str, at: Any = "last") -> float | None:
        found = run.measure(Figure(metric=metric, at=at))
        return None if found is None else found.value

    assert [value("val/adversarial_accuracy", at) for at in ("last", "best", "max", "min", 1)] == [
        0.4,
        0.5,
        0.5,
        0.2,
        0.2,
    ]
    assert value("health/fgsm_accuracy", 1) == pytest.approx(0.3)  # the mean of its epoch
    assert value("health/pgd_accuracy", "max") == pytest.approx(0.2)
    assert value("collapse_epoch") == 2
    assert value("health/nothing") is None
    assert value("val/adversarial_accuracy", 7) is None
    assert value("robust_accuracy@autoattack") is None
    assert run.measure(Figure(metric="val/adversarial_accuracy")).n == 5  # type: ignore[union-attr]
    assert run.collapsed is True


@pytest.mark.parametrize(("action", "collapsed"), [("rollback", False), ("stop", False), ("warn", True)])
def test_weights_that_were_put_back_did_not_collapse(action: str, collapsed: bool, tmp_path: Path) -> None:
    health = f"{COLUMNS}1,1,0.5,0.5,0.9,1,\n2,2,0.9,0.0,0.1,0,{action}\n"
    run = finished(tmp_path / "run", 0.9, 0.5, health=health)
    assert run.collapsed is collapsed
    assert run.rollbacks == (action == "rollback")
    assert finished(tmp_path / "unwatched", 0.9, 0.5).collapsed is None


def test_the_shared_prefix_of_a_log(tmp_path: Path) -> None:
    reference = {
        "columns": ["val/adversarial_accuracy"],
        "values": {1: [0.3], 3: [0.42], 10: [0.9]},
        "tolerance": 0.05,
        "source": "a log",
    }
    paper = read_paper(BLOCK | {"per_epoch": [reference]}, "one2020")
    known = {("main", 0): finished(tmp_path / "run", 0.9, 0.45, metrics=METRICS)}
    (table,) = compare(paper, runs([0.45]), known, []).epochs
    assert [row.epoch for row in table.rows] == [1, 3]
    assert table.differences == pytest.approx([-0.06])  # (-.1 - .02) / 2
    assert table.verdict == "off"


def test_written_and_read_again(tmp_path: Path) -> None:
    outcome = reproduction(tmp_path, [0.45, 0.47])
    path = write_checked(outcome, tmp_path / "reproduction.json")
    assert read_reproduction(path) == outcome
    assert json.loads(path.read_text())["schema"] == 1
    path.write_text(path.read_text().replace('"verdict": "match"', '"verdict": "fine"'))
    with pytest.raises(RequestError, match="verdict"):
        read_reproduction(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seen": "memory"}, "seen"),
        ({"value": 45.0}, "share in"),
        ({"metric": "accuracy"}, "robust_accuracy@<attack>"),
        ({"at": "max"}, "no curve"),
        ({"variant": "other"}, "there are main"),
        ({"tolerence": 0.1}, "tolerence"),
    ],
)
def test_a_block_that_is_wrong(change: dict[str, Any], message: str) -> None:
    block = BLOCK | {"published": [BLOCK["published"][0] | change]}
    with pytest.raises(RequestError, match=message):
        read_paper(block, "one2020")


def test_a_hostile_title_is_escaped(tmp_path: Path) -> None:
    outcome = reproduction(tmp_path, [0.45])
    paper = Paper.model_validate(BLOCK | {"title": HOSTILE})
    hostile = outcome.model_copy(update={"paper": paper})
    assert read_page(write_reproduction_page(hostile, tmp_path / "page.html")).headings[0] == HOSTILE
