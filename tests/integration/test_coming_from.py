"""The code of docs/coming-from does what it says: ours everywhere, theirs where the package is installed."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import torch

from robustml.data import Digits
from robustml.models import DigitsCNN

PAGES = sorted(
    path for path in (Path(__file__).parents[2] / "docs" / "coming-from").glob("*.md") if path.stem != "index"
)
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def prepared() -> dict[str, object]:
    """A model that was trained for some seconds, and 200 of the images that it never saw."""
    torch.manual_seed(0)
    train, test, model = Digits().load("train"), Digits().load("test"), DigitsCNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    for _ in range(8):
        for rows in torch.randperm(len(train.y)).split(128):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(train.x[rows] / 255), train.y[rows]).backward()
            optimizer.step()
    return {"model": model.eval(), "images": test.x[:200] / 255, "labels": test.y[:200]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # theirs have some of their own
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_its_code_runs(
    page: Path, prepared: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace = dict(prepared)
    blocks = [textwrap.dedent(text) for _, text in BLOCK.findall(page.read_text())]
    assert any("robustml" in block for block in blocks)
    for block in blocks:
        exec(compile(block, str(page), "exec"), namespace)
