"""Charts and pictures: what is drawn, and what is not."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from robustml.reporting import read_run
from robustml.reporting.figures.charts import accuracy_curve, heat_map, training_curves
from robustml.reporting.formats import NOTHING
from robustml.reporting.pages.pictures import magnification, picture_grid
from robustml.results import Curve

from .conftest import MakeRun, write_examples


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
