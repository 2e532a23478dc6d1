"""What `serve` refuses before anything is written; that it serves, integration/test_extract.py shows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from robustml.errors import RequestError
from robustml.extraction import Limits, Rounding
from robustml.workflows.serve import serve

RUN = Path(__file__).parents[1] / "fixtures" / "version_0_1" / "clean"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"run": "none"}, "none"),
        ({"port": 70000}, "65535"),
        ({"host": "256.1.1.1"}, "cannot serve"),
        ({"make_defense": lambda: Rounding(0)}, "defense.digits"),
    ],
)
def test_what_cannot_be_served(options: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=expected):
        serve(**{"run": RUN, "out": tmp_path / "out", "port": 0, "limits": Limits()} | options)
    assert not (tmp_path / "out").exists()


def test_the_extra_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "robustml.extraction.endpoint.server", raising=False)
    monkeypatch.delattr("robustml.extraction.endpoint.server", raising=False)
    with pytest.raises(RequestError, match=r"robustml-lightning\[serve\]"):
        serve(RUN, out=tmp_path / "out")
