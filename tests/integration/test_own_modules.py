"""A class of the user's own, out of the current folder: found by every verb, and used once it is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from integration.conftest import TRAINING
from integration.forks import command
from robustml.reporting import read_run

OWN = """
from torch import nn
from robustml.models import MLP
class Net(MLP):
    pass
"""


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a user's own class, out of the folder that it was trained in."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "mynet.py").write_text(OWN)
    (folder / "colorsys.py").write_text("raise SystemExit('not the one of Python')")
    words = ["model=custom", "model._target_=mynet.Net", "+model.shape=[1,8,8]", "+model.num_classes=10"]
    words += ["trainer.max_epochs=1", "evaluation=clean", "hydra.run.dir=run"]
    return command("train", "experiment=digits_standard", *TRAINING, *words, cwd=folder, apart=True).run


def test_a_users_own_module_is_used_once_it_is_trusted(own_run: Path) -> None:
    folder = own_run.parent
    said = command("evaluate", f"run={own_run}", cwd=folder, apart=True)
    assert said.status == 2
    assert "model._target_=mynet.Net is code that the run names, and none of robustml's: if you trust it, add " in (
        said.error
    )
    assert "add trust=mynet or trust=true" in said.error
    evaluated = command("evaluate", f"run={own_run}", "trust=mynet", cwd=folder, apart=True)
    assert read_run(evaluated.run).results.clean_accuracy == read_run(own_run).results.clean_accuracy
    assert "trust" not in yaml.safe_load((evaluated.run / "config.yaml").read_text())


@pytest.mark.slow
def test_a_users_own_module_is_trained_on(own_run: Path) -> None:
    folder = own_run.parent
    for words in (["finetune", f"run={own_run}", "+trainer.limit_train_batches=1"], ["train", f"resume={own_run}"]):
        assert "add trust=mynet" in command(*words, cwd=folder, apart=True).error
        assert command(*words, "trust=mynet", cwd=folder, apart=True).run
