"""A run directory may come from a stranger: no verb runs what it names, follows where it leads, or writes elsewhere."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import robustml
from integration.forks import inside
from integration.stranger import (
    BASE,
    DATA,
    DIGITS,
    HUB,
    LOAD,
    MODEL,
    PGD,
    SHELL,
    TIMM,
    Bomb,
    code,
    made,
    put,
)
from robustml.commands import sweep
from robustml.commands.evaluate import take_up_evaluation
from robustml.commands.hydra.composing import composed, record
from robustml.commands.hydra.of_a_run import RESTORED, take_up
from robustml.errors import RequestError
from robustml.workflows import reproduce
from robustml.workflows.measuring import backdoors
from robustml.workflows.serve import serve
from robustml.workflows.settings import read_settings
from robustml.workflows.settings.building import build
from robustml.workflows.settings.trust import own_modules, take_trust, trusted
from robustml.workflows.training.resume import settings_to_resume


@pytest.fixture(autouse=True)
def _nobody_is_trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROBUSTML_TRUST", "")  # and taken away again, whatever a test does to it
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Is there once anything of the stranger's has run. x.pt and stranger.py in the current folder would make it."""
    (tmp_path / "x.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "canary")))
    (tmp_path / "stranger.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'canary')!r})\n")
    return tmp_path / "canary"


HOSTILE: list[tuple[str, Any]] = [
    ("model", LOAD),
    ("model", code("stranger.Net")),
    ("model", code("builtins.eval", _args_=["__import__('os').mkdir('canary')"])),
    ("model", code("functools.partial", _args_=[SHELL])),
    ("model", code("hydra.utils.get_object", path="stranger.Net")),
    ("model", code("hydra.utils.call", config=SHELL)),
    ("model", code("robustml.models.torch.load", f="x.pt", weights_only=False)),
    ("model", code("robustml.models.checkpoints.torch.load", f="x.pt", weights_only=False)),
    ("model", code("robustml.models.load_checkpoint", model=MODEL, path="x.pt")),
    ("model", code("robustml.models.MLP.load_state_dict")),
    ("model", code("robustml.workflows.settings.building.build", settings=SHELL)),
    ("model", code("robustml.workflows.reproduce.launch", words=["--version"], log=None)),
    ("model", code("robustml.load_model", run_dir="other")),
    ("model", code("robustml.extraction.HttpVictim", address="http://127.0.0.1:9")),
    ("model", code("torch.hub.load", repo_or_dir="a/b", model="c")),
    ("model", code("torchvision.models.get_model", name="resnet18")),
    ("model", code("torchvision.models.resnet18", weights="DEFAULT")),
    ("model", TIMM | {"name": "hf-hub:stranger/net"}),
    ("model", TIMM | {"checkpoint_path": "x.pt"}),
    ("model", TIMM | {"pretrained_cfg_overlay": {"file": "x.pt"}}),
    ("model", MODEL | {"hidden": [SHELL]}),
    ("model", MODEL | {"hidden": {"a": {"b": [[LOAD]]}}}),
    ("model", MODEL | {"_args_": [SHELL]}),
    ("model", MODEL | {"_recursive_": False}),
    ("model", MODEL | {"_partial_": SHELL}),
    ("model", code("robustml.models.Wrapped", function=SHELL)),
    ("model._target_", ["os.system"]),
    ("model._target_", "robustml.models.MLP\nos.system"),
    ("model._target_", "\x1b[31mos.system"),
    ("threat", code("robustml.models.MLP")),
    ("threat", SHELL),
    ("attack", SHELL),
    ("attack.threat", SHELL),
    ("attack.params", {"eps": SHELL}),
    ("attack", code("robustml.attacks.Transfer", surrogate=SHELL, attack=PGD)),
    ("attack", code("robustml.attacks.Transfer", surrogate=code("robustml.load_model", run_dir="x", trust=True))),
    ("evaluation.attacks.model", code("robustml.models.MLP")),
    ("evaluation.attacks.mine", SHELL),
    ("evaluation.certification", SHELL),
    ("evaluation.unheard_of", SHELL),
    ("objective.attack", SHELL),
    ("optimizer", code("torch.optim.lr_scheduler.LambdaLR", lr_lambda=SHELL)),
    ("optimizer", code("torch.compile", _partial_=True)),
    ("scheduler", SHELL),
    ("poison", code("robustml.poisoning.BadNets", trigger=SHELL)),
    ("poison", code("robustml.data.cache.os.system", command="mkdir canary")),
    ("balance", SHELL),
    ("data", SHELL),
    ("data.source", SHELL),
    ("data.source", HUB | {"path": "/etc"}),
    ("data.source", HUB | {"path": "./stranger"}),
    ("data.source", code("robustml.data.Subset", source=SHELL)),
    ("data.augment", [SHELL]),
    ("data.extra", code("robustml.data.ExtraImages", source=DIGITS, labeller=SHELL)),
    ("trainer.plugins", [SHELL]),
    ("trainer.profiler", code("pytorch_lightning.profilers.PyTorchProfiler", dirpath="elsewhere")),
    ("trainer", SHELL),
    ("callbacks.mine", SHELL),
    ("callbacks.mine", code("pytorch_lightning.callbacks.ModelCheckpoint", dirpath="elsewhere")),
    ("callbacks.mine", code("pytorch_lightning.callbacks.LambdaCallback", on_train_start=SHELL)),
    ("callbacks.mine", code("robustml.training.callbacks.EpochTable", path="elsewhere.csv")),
    ("logger.mine", SHELL),
    ("logger.mine", code("pytorch_lightning.loggers.MLFlowLogger", tracking_uri="http://127.0.0.1:9")),
    ("hydra", {"callbacks": {"mine": SHELL}}),
    ("hydra", {"run": {"dir": "elsewhere"}}),
    ("defaults", [{"override hydra/launcher": "joblib"}]),
    ("anything", SHELL),
    ("name", "${oc.env:HOME}"),
    ("data.name", "a ${oc.env:HOME}"),
    ("model.hidden", ["${oc.decode:'[1]'}"]),
    ("threat.eps", "${threat.p}"),
    ("data.name", "???"),
    ("model", "text"),
    ("data", [DATA]),
]


@pytest.mark.parametrize(("place", "node"), HOSTILE, ids=lambda value: str(value)[:60] if value != "" else None)
def test_nothing_that_a_config_names_is_run(
    place: str, node: Any, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own_modules()
    run = made(tmp_path / "run", put(place, node))
    before = sorted(tmp_path.rglob("*"))
    for read in (robustml.load_model, settings_to_resume):
        with pytest.raises(RequestError, match=r"refused|damaged|lacks") as refusal:
            read(run)
        text = str(refusal.value)
        assert text.isprintable(), "one line, and nothing that repaints a terminal"
        assert place.partition(".")[0] in text
        assert os.environ["HOME"] not in text.replace(str(run), "")
    assert not canary.exists()
    assert sorted(tmp_path.rglob("*")) == before
    assert "stranger" not in sys.modules


@pytest.mark.parametrize(
    "place", ["model", "objective.attack", "data", "data.source", "evaluation.attacks.mine", "callbacks.mine"]
)
@pytest.mark.parametrize(
    "node",
    [
        code("stranger.Net"),
        code("os.mkdir", path="canary"),
        code("hydra.utils.get_object", path="stranger.Net"),
        code("hydra.utils.call", path="stranger.Net", config="x"),
    ],
    ids=lambda node: str(node["_target_"]),
)
def test_what_was_given_to_a_stranger_is_neither_made_nor_looked_up(
    place: str, node: dict[str, Any], canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = made(tmp_path / "run", put(place, node | {"_given_": True}))
    for words in (("train", f"resume={run}"), ("evaluate", f"run={run}")):
        assert inside(*words, cwd=tmp_path).status != 0
    with pytest.raises(RequestError, match="was an object of the caller's"):
        build(read_settings(run))
    # a word that is not the mark, what is in the arguments, and what is trusted in part
    for changed, trust in (
        (node | {"_given_": "yes"}, False),
        (node | {"_given_": True, "inner": SHELL}, False),
        ({"_target_": "os.mkdir", "path": "robustml.load_model", "_given_": True}, "robustml"),
    ):
        with pytest.raises(RequestError, match="refused"):
            read_settings(made(tmp_path / "other", put(place, changed)), trust=trust)
    assert not canary.exists()
    assert "stranger" not in sys.modules


def as_said(*words: str) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr("sys.argv", ["robustml", *words])


def _served(run: Path) -> None:
    serve(run, out=run.parent / "served")


def _taken_up(verb: str, run: Path) -> None:
    take_up(verb)


def _tuned(run: Path) -> None:
    backdoors.inherited({"backdoor_of": str(run)}, run.parent)


def _reproduced(run: Path) -> None:
    (run / "results.json").write_text("{}")
    words = ["experiment=digits_standard"]
    reproduce.rerun(reproduce.Training("published", 0, run, words, lambda: composed(words, run)))


VERBS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "load_model": ("", robustml.load_model),
    "load_model last": ("", lambda run: robustml.load_model(run, "last")),
    **{verb: (f"{wanted.key}={{}}", partial(_taken_up, verb)) for verb, wanted in RESTORED.items()},
    "evaluate resume=": ("resume={}", lambda run: take_up_evaluation()),
    "train resume=": ("resume={}", settings_to_resume),
    "serve": ("", _served),
    "sweep eps": ("run={}", lambda run: sweep._base_eps("evaluate")),
    "reproduce": ("", _reproduced),
    "backdoor_of": ("", _tuned),
    "surrogate of an attack": (
        "",
        lambda run: build(code("robustml.attacks.Transfer", surrogate=code("robustml.load_model", run_dir=str(run)))),
    ),
    "labeller": ("", lambda run: build(code("robustml.load_model", run_dir=str(run), _partial_=True))()),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_reads_a_run_refuses(
    verb: str, canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own_modules()
    words, read = VERBS[verb]
    for number, (place, node) in enumerate((("model", LOAD), ("evaluation.attacks.pgd.threat", SHELL), ("hydra", {}))):
        run = made(tmp_path / f"run{number}", put(place, node))
        (run / "verdicts.jsonl").touch()
        monkeypatch.setattr("sys.argv", ["robustml", *([words.format(run)] if words else [])])
        with pytest.raises(Exception) as refusal:  # Hydra wraps what is raised inside of it
            read(run)
        errors = [refusal.value, refusal.value.__cause__, refusal.value.__context__]
        assert any(isinstance(error, RequestError) and "refused" in str(error) for error in errors), refusal.value
        assert {path.name for path in run.iterdir()} <= {"config.yaml", "verdicts.jsonl", "results.json", "train.log"}
    assert not canary.exists()


def test_our_own_config_needs_no_trust(tmp_path: Path) -> None:
    settings = read_settings(made(tmp_path / "run"), trust=False)
    assert settings == BASE
    assert build(settings["attack"]).steps == 2


def test_only_where_a_module_is_trusted_its_own_classes_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mynet.py").write_text("import os\nfrom torch import nn\nclass Net(nn.Flatten):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    own_modules()
    run = made(tmp_path / "run", put("model", code("mynet.Net")))
    with pytest.raises(
        RequestError, match=r"add trust=mynet or trust=true, in Python load_model\(\.\.\., trust='mynet'"
    ):
        read_settings(run)
    with pytest.raises(RequestError, match="trust=mynet"):
        read_settings(run, trust="other,mynetwork")
    for trust in (True, "mynet", ["other", "mynet"], "[other, mynet]"):
        assert read_settings(run, trust=trust)["model"] == {"_target_": "mynet.Net"}
    # what the module happens to import is none of its own
    with pytest.raises(RequestError, match="add trust=posix"):
        read_settings(made(tmp_path / "other", put("model", code("mynet.os.system"))), trust="mynet")
    callables = made(tmp_path / "third", put("model", code("hydra.utils.get_object", path="mynet.Net")))
    with pytest.raises(RequestError, match=r"model\.path=mynet\.Net .* add trust=mynet"):
        read_settings(callables)
    assert read_settings(callables, trust="mynet")
    with pytest.raises(RequestError, match="hydra"):
        read_settings(made(tmp_path / "fourth", put("hydra", {})), trust=True)


def test_trust_is_taken_from_the_command_line_and_kept_for_other_processes() -> None:
    assert trusted() is False
    assert take_trust(["run=a", "trust=mynet, others.net", "b=c"]) == ["run=a", "b=c"]
    assert trusted() == ("mynet", "others.net")
    assert take_trust(["trust=True"]) == []
    assert trusted() is True
    with pytest.raises(RequestError, match="expected true, or modules"):
        take_trust(["trust=os; rm"])


def test_modules_of_the_current_folder_never_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for before in ([str(tmp_path), "/usr/lib"], ["/bin", "/usr/lib"], ["", "/usr/lib"]):
        monkeypatch.setattr("sys.path", list(before))
        own_modules()
        assert sys.path[-1] == str(tmp_path)
        assert str(tmp_path) not in sys.path[:-1]
        assert "" not in sys.path


def test_a_reference_in_a_path_stays_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("${oc.env:HOME}", "a\\${b}", "a\\\\${b", "${"):
        record({"run": path})
        config = OmegaConf.create(ConfigStore.instance().load("recorded.yaml").node)
        assert config.run == path
