"""Report pages: self-contained, escaped, and whole with whatever a run has."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from robustml.errors import RequestError
from robustml.reporting.formats import NOTHING
from robustml.reporting.html import write_report
from robustml.reporting.pictures import magnification, picture_grid
from robustml.reporting.plots import accuracy_curve, heat_map, training_curves
from robustml.reporting.runs import read_run
from robustml.reporting.story import run_sentences
from robustml.results import Curve

from .conftest import MakeRun, counted, make_results, write_examples

HOSTILE = '<script>alert("&1")</script>$x^2$'
VOID = {"meta", "path", "use", "rect", "image", "br"}


class Page(HTMLParser):
    """Checks that tags close in order, and gathers the elements and what they refer to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                self.references.append(value or "")
            if name == "id":
                self.ids.append(value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def checked(path: Path) -> tuple[str, Page]:
    """The text of a page that refers to nothing outside itself."""
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert not re.search(r"@import|url\((?!#)", text)
    for reference in page.references:
        assert reference.startswith(("#", "data:image/png;base64,")), reference
        if reference.startswith("#"):
            assert reference[1:] in page.ids
    return text, page


def test_everything(make_run: MakeRun, tmp_path: Path) -> None:
    results = make_results(flags=2)
    results["backdoor"] = {"attack_success_rate": counted(3, 50), "kind": "badnets"}
    run = make_run(results=results)
    text, page = checked(write_report([run], tmp_path / "report.html"))
    assert page.tags.count("figure") == 4
    for part in ("Images under attack", "By class", "Training", "Backdoor", "gradient masking", "2 raised", "8/255",
                 "beta: 6.0", "3fa9c1d2", "epoch 22", "badnets", "prefers-color-scheme"):  # fmt: skip
        assert part in text, part
    assert str(tmp_path) not in text
    assert text == write_report([run], tmp_path / "again.html").read_text(encoding="utf-8")


def test_the_minimum_leaves_no_holes(make_run: MakeRun, tmp_path: Path) -> None:
    keep = ("schema", "command", "experiment", "seed", "data", "model", "threat", "clean_accuracy")
    results = {key: value for key, value in make_results().items() if key in keep}
    text, page = checked(write_report([make_run(full=False, results=results)], tmp_path))
    assert "figure" not in page.tags
    assert "details" not in page.tags
    assert "It was not attacked" in text
    assert "none raised" in text
    assert (tmp_path / "report.html").is_file()


def test_no_examples_at_all(make_run: MakeRun, tmp_path: Path) -> None:
    text, _ = checked(write_report([make_run(n=0)], tmp_path / "report.html"))
    assert "nothing can be said" in text
    assert "nan" not in re.sub(r"base64,[^\"]*", "", text).lower()


def test_two_runs(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run("a"), make_run("b", experiment="standard", strength=0.02, flags=1), make_run("c", full=False, n=0)]
    text, page = checked(write_report(runs, tmp_path / "report.html", title="Before & after"))
    assert "<h1>Before &amp; after</h1>" in text
    assert {"run-1", "run-2", "run-3"} <= set(page.ids)
    assert "Sanity checks raised flags for standard" in text
    assert str(tmp_path) not in text


def test_hostile_names_are_escaped(make_run: MakeRun, tmp_path: Path) -> None:
    results = make_results(classes=(HOSTILE, "b"), experiment=HOSTILE, flags=1)
    results["data"]["name"] = results["model"]["name"] = results["flags"][0]["message"] = HOSTILE
    results["attacks"][HOSTILE] = results["attacks"].pop("pgd")
    results["attacks"][HOSTILE]["params"] = {HOSTILE: [HOSTILE]}
    results["worst_case"]["attacks"] = list(results["attacks"])
    results["curve"]["attack"] = results["selection"]["monitor"] = HOSTILE
    run = make_run(results=results)
    (run / "config.yaml").write_text(f"# {HOSTILE}\n")
    write_examples(run, names=(HOSTILE, "b"))
    one, _ = checked(write_report([run], tmp_path / "one.html"))
    two, _ = checked(write_report([run, make_run("b", experiment=HOSTILE)], tmp_path / "two.html"))
    for text in (one, two):
        assert "<script" not in text
        assert "&lt;script&gt;" in text


def test_missing_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least one"):
        write_report([], tmp_path / "report.html")
    with pytest.raises(RequestError, match="absent is not a run directory"):
        write_report([tmp_path / "absent"], tmp_path / "report.html")


def test_examples_that_are_no_images(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    write_examples(run, shape=(20,))
    text, _ = checked(write_report([run], tmp_path / "report.html"))
    assert "Examples under attack" in text
    assert "clean test examples" in text
    assert picture_grid(read_run(run).examples) == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 5, 9), (1, 300, 300)])
def test_pictures(shape: tuple[int, ...], make_run: MakeRun) -> None:
    run = make_run(full=False)
    write_examples(run, shape=shape, count=3)
    examples = read_run(run).examples
    assert examples is not None
    svg = ElementTree.fromstring(picture_grid(examples))
    assert len(svg.findall("{http://www.w3.org/2000/svg}image")) == 9


@pytest.mark.parametrize(("eps", "factor"), [(8 / 255, 10), (0.3, 1), (0.05, 10), (1 / 255, 100), (0.25, 2)])
def test_magnification(eps: float, factor: int, make_run: MakeRun) -> None:
    run = make_run(full=False)
    write_examples(run, eps=eps)
    examples = read_run(run).examples
    assert examples is not None
    assert magnification(examples) == factor
    assert factor * np.abs(examples.x_adv - examples.x).max() <= 0.51


def test_charts_with_missing_columns() -> None:
    assert training_curves(pd.DataFrame({"epoch": [0, 1]})) == ""
    only = training_curves(pd.DataFrame({"epoch": [0], "val/loss": [1.0], "train/loss": [np.inf]}), best_epoch=0)
    ElementTree.fromstring(only)
    assert ">loss<" in only
    assert ">accuracy<" not in only
    assert accuracy_curve([("a", Curve(attack="pgd", points=[]))]) == ""
    assert heat_map(pd.DataFrame()) == ""


def test_heat_map_shows_percent_and_gaps() -> None:
    values = pd.DataFrame([[0.5, np.nan], [0.25, 1.0]], index=[0.0, 8 / 255], columns=[0.0, 4 / 255])
    svg = heat_map(values)
    ElementTree.fromstring(svg)
    for text in (">50.0<", f">{NOTHING}<", ">25.0<", ">100.0<", ">8/255<", ">4/255<"):
        assert text in svg


def test_sentences_follow_the_numbers(make_run: MakeRun) -> None:
    weak = " ".join(run_sentences(read_run(make_run("weak", full=False, strength=0.02, flags=1))))
    assert "no better than guessing among 10 classes" in weak
    assert "1 flag was raised" in weak
    strong = " ".join(run_sentences(read_run(make_run("strong", full=False, strength=0.9, norm="2", eps=0.5))))
    assert "by a Euclidean length of up to 0.5 (L2)" in strong
    assert "remain right" in strong
    assert "No sanity check raised a flag" in strong
