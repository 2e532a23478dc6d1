from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from robustml.commands.evaluate import Evaluate
from robustml.commands.extract import Extract
from robustml.commands.hydra.arguments import check_arguments
from robustml.commands.hydra.asked import Asked, check_asked
from robustml.commands.serve import Serve
from robustml.commands.shortcuts import Shortcuts
from robustml.commands.train import Train
from robustml.commands.trojan import Trojan
from robustml.errors import RequestError

PGD = "robustml.attacks.PGD"
MLP = "robustml.models.MLP"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"attack": {"_target_": PGD, "steps": 1.5}}, "attack.steps must be a whole number, got 1.5"),
        ({"attack": {"_target_": PGD, "steps": True}}, "attack.steps must be a whole number, got True"),
        ({"attack": {"_target_": PGD, "steps": None}}, "attack.steps must be a whole number, got null"),
        ({"attack": {"_target_": PGD, "early_stop": 3}}, "attack.early_stop must be true or false, got 3"),
        ({"optimizer": {"_target_": "torch.optim.SGD", "lr": float("nan")}}, "optimizer.lr must be"),
        (
            {"objective": {"_target_": "robustml.objectives.Adversarial", "attack": {"_target_": PGD, "steps": "ten"}}},
            "objective.attack.steps must be a whole number, got 'ten'",
        ),
        ({"augment": [{"_target_": "robustml.data.RandomCrop", "padding": 0.5}]}, "augment[0].padding must be"),
        (
            {"data": {"_target_": "robustml.data.DataModule", "mix": 1.5}},
            "data.mix must be settings with a _target_ or null",
        ),
        ({"data": {"_target_": "robustml.data.DataModule", "augment": 1}}, "data.augment must be a list"),
        ({"model": {"_target_": MLP, "hidden": "wide"}}, "model.hidden must be a list, got 'wide'"),
        ({"model": {"_target_": MLP, "hidden": 8}}, "model.hidden must be a list, got 8"),
        ({"model": {"_target_": MLP, "hidden": [8, "wide"]}}, "model.hidden[1] must be a whole number, got 'wide'"),
        ({"model": {"_target_": MLP, "mean": 0.5}}, "model.mean must be a list or null, got 0.5"),
        ({"objective": {"_target_": "robustml.objectives.Adversarial", "attack": None}}, "objective.attack must be"),
        ({"attack": {"_target_": PGD, "_partial_": "abc"}}, "attack._partial_ must be true or false"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "seed must be"),
        ({"seed": True}, "seed must be"),
        ({"seed": "abc"}, "seed must be"),
        ({"evaluation": {"seed": 1.0}}, "evaluation.seed must be"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_key(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=re.escape(says)):
        check_arguments(settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"attack": {"_target_": PGD, "steps": 10, "step_size": 1, "early_stop": True}},
        {"attack": {"_target_": PGD, "step_size": None}},
        {"optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1, "betas": [0.9, 0.999]}},
        {"model": {"_target_": "nowhere.Net", "width": 1.5}},
        {"threat": {"_target_": "robustml.threats.LpBall", "p": "inf", "eps": 0.1}},
        {"seed": 0, "data": {"seed": None}},
    ],
)
def test_what_fits_or_cannot_be_judged_passes(settings: dict[str, Any]) -> None:
    check_arguments(settings)


@pytest.mark.parametrize(
    ("asked", "settings", "says"),
    [
        (Train, {"evaluation": {"limit": 1.5}}, "evaluation.limit must be a whole number or null, got 1.5"),
        (
            Train,
            {"evaluation": {"time_limit": {"a": 1}}},
            "evaluation.time_limit must be a number or null, got {'a': 1}",
        ),
        (Train, {"evaluation": {"curve": {"eps": True}}}, "evaluation.curve.eps must be a list or null, got True"),
        (Train, {"evaluation": {"curve": {"relative": [0, "abc"]}}}, "evaluation.curve.relative[1] must be a number"),
        (Train, {"evaluation": {"curve": [1]}}, "evaluation.curve must be settings or null, got [1]"),
        (
            Train,
            {"validation": {"monitor": [1, 2]}},
            "validation.monitor must be 'adversarial' or 'clean'",
        ),
        (Train, {"compile": "maybe"}, "compile must be true or false, got 'maybe'"),
        (Extract, {"budget": 1.5}, "budget must be a whole number, got 1.5"),
        (Train, {"evaluation": {"seed": None}}, "evaluation.seed must be a whole number, got null"),
        (Train, {"threat": {"eps": "abc"}}, "threat.eps must be a number, got 'abc'"),
        (Train, {"threat": {"eps": float("nan")}}, "threat.eps must be a number, got nan"),
        (Evaluate, {"which": "frist"}, "which must be 'best' or 'last', got 'frist'"),
        (
            Evaluate,
            {"evaluation": {"limit": 0}},
            "evaluation.limit must be at least 1 or null, got 0",
        ),
        (Trojan, {"place": [1, 0.5]}, "place[1] must be a whole number, got 0.5"),
        (Extract, {"budget": 0}, "budget must be at least 1, got 0"),
        (Serve, {"port": 2**16}, "port must be at most 65535, got 65536"),
        (Shortcuts, {"threshold": 2}, "threshold must be at most 1, got 2"),
        (Asked, {"seed": True}, "seed must be a whole number, got True"),
    ],
)
def test_what_a_verb_must_hold(asked: type[Asked], settings: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError, match=re.escape(says)):
        check_asked(asked, settings)


def test_what_a_verb_may_hold() -> None:
    evaluation = {"curve": None, "limit": None, "time_limit": 3}
    check_asked(Evaluate, {"evaluation": evaluation, "run": "???", "which": "???", "device": None})
    curve = {"attack": "pgd", "eps": [0, 0.5], "relative": None, "limit": 10}
    check_asked(Train, {"evaluation": {"curve": curve}, "unknown to us": 1, "threat": {"eps": 1}})


def test_a_wrong_eps_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['robustml', 'train', 'threat.eps=abc']\n"
        "from robustml.cli import main\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "False\n")
    assert done.stderr == "error: threat.eps must be a number, got 'abc'\n"
