"""Every kind of page as Chromium lays it out: nothing leaves its box, charts can be read, links lead somewhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustml.files import sha256
from robustml.reporting import write_report, write_sweep
from robustml.reporting.figures.shortcuts import Suspect
from robustml.reporting.pages.card import write_cards
from robustml.reporting.pages.feedback import write_feedback_page
from robustml.reporting.pages.ranking import write_ranking
from robustml.reporting.pages.reproduction import write_reproduction_page
from robustml.reporting.pages.shortcuts import write_shortcut_page
from robustml.reporting.runs import find_runs
from robustml.results import DataFacts, FeedbackFigures, FeedbackReport, ShortcutSearch, ShortcutSuspect, rate

from .browser import CHROMIUM, VIEWS, browser, measured
from .conftest import MakeRun, make_results, weights_digest, write_examples
from .test_extraction import DEFENSE, content
from .test_reproduction import reproduction
from .test_verdict import backdoor, certified

NAMES = ("a", "hauled over a long and winding way to the harbour", "Donaudampfschifffahrtsgesellschaft", *"3456789")
LINKED = {"card", "comparison", "evaluation", "poison", "ranking", "reproduction", "run", "shortcuts", "sweep"}


def corruptions() -> dict[str, Any]:
    names = ("gaussian_noise", "elastic_transform", "jpeg_compression")
    points = [{"severity": severity, "accuracy": rate(95 - 9 * severity, 100).model_dump()} for severity in range(1, 6)]
    return {"accuracy": dict.fromkeys(names, points), "mean_accuracy": 0.68, "mean_corruption_error": 0.32}


def suspect(name: str) -> Suspect:
    figures = ShortcutSuspect.model_validate(
        {"class": name, "found": True, "place": (2, 2), "size": 2, "flip_rate": rate(80, 100).model_dump(),
         "excess": 0.7, "flip_rates": [(2, 2, 0.8), (0, 0, 0.1)], "example": (0, 1)}
    )  # fmt: skip
    return Suspect(figures, np.zeros((1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32), NAMES[1])


def feedback() -> FeedbackReport:
    def rounds(loss: float) -> list[FeedbackFigures]:
        return [
            FeedbackFigures(number=number, spam=100, false_reports=0, trained_on=200 * (number + 1), serves=number,
                            spam_recall=0.95 - loss * number, ham_recall=0.98, previous_round_alarm=False,
                            baseline_alarm=loss > 0 and number > 3)
            for number in range(7)
        ]  # fmt: skip

    return FeedbackReport(seed=0, data=DataFacts(name="mails", train=1400, test=1000), spam="spam", shares=[0.0] * 6,
                          notes=[], attacked=rounds(0.07), control=rounds(0), rolled_back=rounds(0.01))  # fmt: skip


@pytest.fixture
def pages(make_run: MakeRun, tmp_path: Path) -> dict[str, Path]:
    """A page of each kind, as they lie beside each other."""

    def made(name: str, **blocks: Any) -> Path:
        results = make_results(experiment=name, classes=NAMES, flags=2)
        folder = make_run(f"out/{name}", results=results | blocks)
        (folder / "model.safetensors").write_text(name)
        written = json.loads((folder / "results.json").read_text())
        written["model"]["sha256"] = sha256(folder / "model.safetensors")
        written["environment"] |= {"date": "2026-11-28T03:21:00+00:00", "commit": "0123456789ab-dirty"}
        (folder / "results.json").write_text(json.dumps(written))
        write_examples(folder, names=NAMES)
        return folder

    run, twin = made("run"), made("twin")
    planted = backdoor(88, 1)
    planted["twin"]["run"] = str(twin)
    poison = made("poison", backdoor=planted)
    kinds = {
        "corruptions": {"corruptions": corruptions()},
        "certificates": {"certified": certified(60)},
        "extraction": {"extraction": content(defense=DEFENSE)},
        "trojan": {"backdoor": backdoor(80, 2)},
    }
    folders = {"run": run, "poison": poison, **{name: made(name, **blocks) for name, blocks in kinds.items()}}
    evaluation = run / "evaluations" / "2026-11-28_03-28-38-635338"
    shutil.copytree(run, evaluation, ignore=shutil.ignore_patterns("evaluations"))
    for number, eps in enumerate((0.01, 0.02, 8 / 255, 0.05, 0.1, 0.2, 0.3, 0.4)):
        results = make_results(experiment="swept", eps=eps)
        results["model"]["sha256"] = weights_digest("one")
        point = make_run(f"out/sweep/{number}", results=results)
        with (point / "config.yaml").open("a") as config:
            config.write(f"overrides: [threat.eps={eps}]\n")
        write_report([point], point / "report.html")
    write_sweep(tmp_path / "out" / "sweep")
    write_report([twin], twin / "report.html")
    write_report([evaluation], evaluation / "report.html")
    write_cards([run], run)
    found = {name: write_report([folder], folder / "report.html") for name, folder in folders.items()}
    write_report([evaluation], evaluation / "report.html")
    runs, _ = find_runs(tmp_path / "out")
    write_ranking(runs, tmp_path / "out")
    write_cards([run, twin], tmp_path / "out" / "cards")
    search = ShortcutSearch(
        run=str(poison), twin=None, data=DataFacts(name="digits", test=360), which="best", seed=0, size=2, stride=1,
        pictures=100, threshold=0.6, suspects=[suspect(name).figures for name in NAMES[:3]], twin_suspects=[],
    )  # fmt: skip
    repeated = reproduction(tmp_path / "out" / "repeated" / "main", [0.45, 0.3])
    for seed in (0, 1):
        seeded = tmp_path / "out" / "repeated" / "main" / f"{seed}"
        shutil.copytree(seeded, seeded.with_name(f"seed-{seed}"))
        write_report([seeded.with_name(f"seed-{seed}")], seeded.with_name(f"seed-{seed}") / "report.html")
    return found | {
        "evaluation": evaluation / "report.html",
        "card": run / "card.html",
        "cards": tmp_path / "out" / "cards" / "card.html",
        "comparison": write_report([run, twin, poison], tmp_path / "out" / "compare.html"),
        "sweep": tmp_path / "out" / "sweep" / "sweep.html",
        "ranking": tmp_path / "out" / "leaderboard.html",
        "reproduction": write_reproduction_page(repeated, tmp_path / "out" / "repeated" / "reproduction.html"),
        "shortcuts": write_shortcut_page(
            search, {"this model": [suspect(name) for name in NAMES[:3]]}, poison / "shortcuts" / "0" / "shortcuts.html"
        ),
        "feedback": write_feedback_page(feedback(), tmp_path / "out" / "feedback.html"),
    }


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.is_file():
        pytest.skip(f"there is no {CHROMIUM}")
    with browser() as found:
        yield found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_nothing_overflows_and_every_link_leads_somewhere(
    pages: dict[str, Path], chromium: Any, tmp_path: Path
) -> None:
    found = [
        f"{name}, {view}: {problem}"
        for name, path in pages.items()
        for view in VIEWS
        for problem in measured(chromium, path, view, tmp_path / f"{name}-{view}.png")
    ]
    assert found == []
    assert {name for name, path in pages.items() if 'href=".' in path.read_text()} >= LINKED
    moved = shutil.move(tmp_path / "out", tmp_path / "elsewhere")
    for path in pages.values():
        assert measured(chromium, moved / path.relative_to(tmp_path / "out"), "wide") == []
