"""Every YAML composes and builds; every experiment survives a few batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytest
import pytorch_lightning as pl
import torch
import yaml
from data.tiny import noise, png, write_parquet
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from torch.optim import SGD, Optimizer

from integration.forks import command
from robustml.attacks import FGSM
from robustml.commands.hydra.composing import plain, record
from robustml.config import config_dir
from robustml.data import DataModule, ExtraImages, Records
from robustml.extraction import Defense, Extraction
from robustml.poisoning import Poison
from robustml.results import read_results
from robustml.threats import LpBall
from robustml.training.callbacks import EMA, AttackSchedule, CatastrophicOverfitting
from robustml.workflows.preparing import build_attacks
from robustml.workflows.secret import with_secret
from robustml.workflows.settings.building import build
from robustml.workflows.settings.safe import check_recorded

CONFIGS = config_dir()
GROUPS = sorted({path.parent.name for path in CONFIGS.glob("*/*.yaml")})
ALL = sorted(path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.yaml"))
# What a data set needs to be described; its files need not exist before it is set up.
NEEDED = {
    "data/features": ["data.source.train=train.parquet"],
    "data/csv": ["data.source.train=train.csv"],
    "data/hub": ["data.source.path=owner/set"],
    "data/image_folder": ["data.source.train=photos"],
    "data/parquet": ["data.source.train=train.parquet"],
    "data/text": ["data.source.train=mails.csv"],
    "experiment/bartoldson2024": ["data.extra.source.path=generated.npz"],
    "experiment/rade2021_hat": ["objective.helper.run_dir=another"],
    "experiment/rebuffi2021_fixing": ["data.extra.source.path=generated.npz"],
    "experiment/wang2023_dm": ["data.extra.source.path=generated.npz"],
}
# Sets that come with the package: the sizes of their parts.
EMBEDDED = {"breast_cancer": (386, 69, 114), "digits": (1257, 180, 360), "tones": (1080, 120, 300)}
# What an attack runs with in place of the default threat, and what only the user of it can name.
ATTACKED = {
    "ddn": ["threat=l2"],
    "patch_pgd": ["threat=patch"],
    "sparse_rs": ["threat=sparse"],
    "spatial": ["threat=spatial"],
    "transfer": ["threat.eps=8/255", "attack.surrogate.run_dir=another"],
}
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# What a user's own model is chosen with: they name no model of their own.
OPEN = ("callable", "custom")
COLOUR = ("preact_resnet18", "resnet18", "timm", "wide_resnet")


def is_paper(name: str) -> bool:
    """Whether an experiment is one of `robustml reproduce`; test_papers.py runs those."""
    return "\npaper:\n" in (CONFIGS / "experiment" / f"{name}.yaml").read_text()


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@pytest.fixture
def compose(tmp_path: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Plain settings of `robustml train <words>`, without running it."""

    def compose(*words: str, entry: str = "train") -> dict[str, Any]:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
            config = hydra.compose(entry, [f"hydra.run.dir={tmp_path}", *words], return_hydra_config=True)
        with open_dict(config):
            config.hydra.runtime.output_dir = str(tmp_path)
        HydraConfig.instance().set_config(config)
        config = deepcopy(config)
        with open_dict(config):
            del config["hydra"]
        settings = plain(config)
        # What we record ourselves names no code that a stranger's run would be refused for.
        check_recorded(settings | {"resume": "", "run": ""}, Path("config.yaml"), trust=False)
        return settings

    yield compose
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def test_every_group_is_looked_at_below() -> None:
    looked_at = "attack balance callbacks data debug defense detector evaluation experiment logger method model"
    looked_at += " objective optimizer poison pool repair scheduler sweep threat trainer"
    assert looked_at.split() == GROUPS
    entries = "check describe detect detect_model evaluate evaluate_model extract feedback finetune poison_data repair"
    entries += " resume serve shortcuts train trojan"
    # the words of a verb have tests of their own
    words = ("data_", "keys_", "lineage", "model_")
    assert [name for name in ALL if "/" not in name and not name.startswith(words)] == entries.split()


@pytest.mark.parametrize("name", options("attack"))
def test_attack(name: str, compose: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustml.load_model", lambda run_dir, which: torch.nn.Flatten())
    settings = compose(f"attack={name}", *ATTACKED.get(name, ["threat.eps=8/255"]))
    attack = build(settings["attack"])
    threat = build(settings["threat"])
    assert name in ATTACKED or threat == LpBall("inf", 8 / 255)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    x = torch.rand(2, 1, 8, 8)
    assert threat.contains(attack(model, x, torch.tensor([0, 1]), threat), x).all()


@pytest.mark.parametrize("name", options("data"))
def test_data(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    data = build(compose(f"data={name}", *NEEDED.get(f"data/{name}", []))["data"])
    assert isinstance(data, DataModule)
    if name in EMBEDDED:
        data.setup()
        assert (len(data.train), len(data.val), len(data.test)) == EMBEDDED[name]


@pytest.mark.parametrize(
    "name", [name for name in options("data") if "root:" in (CONFIGS / f"data/{name}.yaml").read_text()]
)
def test_a_folder_of_local_copies_is_that_of_the_set_it_is_named_for(
    name: str, compose: Callable[..., dict[str, Any]]
) -> None:
    """A set may be mounted anywhere, such as a pool of queries beside the victim's own data."""
    words = [f"data={name}", f"data@pool.data={name}", "data.root=own", "pool.data.root=other"]
    words += [f"{place}.source.path=owner/{place}" for place in ("data", "pool.data") if name == "hub"]
    record({})
    settings = compose("victim=http://host", "threat=linf", "pool=another", *words, entry="extract")
    for data, root in ((settings["data"], "own"), (settings["pool"]["data"], "other")):
        source = data["source"]
        assert source.get("source", source)["root"] == root
    assert name != "hub" or settings["pool"]["data"]["name"] == "owner/pool.data"


@pytest.mark.parametrize("name", options("data/extra"))
@pytest.mark.parametrize("labelled", [True, False])
def test_extra_data(
    name: str, labelled: bool, compose: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustml.load_model", lambda run_dir, which: (run_dir, which))
    words = [f"data/extra={name}", f"data.extra.source.{'train' if name == 'image_folder' else 'path'}=owner/set"]
    words += [] if labelled else ["data/extra/labeller=run", "data.extra.labeller.run_dir=another"]
    extra = build(compose(*words, "data.extra.ratio=0.5")["data"]["extra"])
    assert isinstance(extra, ExtraImages)
    assert extra.ratio == 0.5
    assert extra.labeller is None if labelled else extra.labeller() == ("another", "best")


@pytest.mark.parametrize("name", options("data/mix"))
def test_mix(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    settings = compose(f"data/mix={name}", "data.replay=8")["data"]
    x, y = build(settings["mix"])(torch.rand(4, 1, 8, 8), torch.arange(4), 10, 1.0, torch.Generator())
    assert (x.shape, y.shape) == ((4, 1, 8, 8), (4, 10))
    assert build(settings).replay == 8


@pytest.mark.parametrize("name", [name for name in options("model") if name not in OPEN])
def test_model(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    data = "tones" if name == "tone_cnn" else "cifar10" if name in COLOUR else "mnist"
    settings = compose(f"model={name}", f"data={data}")
    with torch.device("meta"):  # shapes without numbers: the wide ones would take seconds
        model = build(settings["model"]).eval()
        assert model(torch.rand(1, *settings["data"]["shape"])).shape == (1, settings["data"]["num_classes"])


# What only the user of a poison can name, or what data it is for.
POISONED = {
    "chain": ["+poison@poison.poisons.first=flip", "+poison@poison.poisons.second=badnets"],
    "clean_label": ["+surrogate=another"],
    "gradient_matching": ["poison.surrogate.run_dir=another", "poison.rows=[17]", "poison.target=cat"],
    "input_aware": ["poison.surrogate.run_dir=another"],
    "inject": ["poison.surrogate.run_dir=another"],
    "label_consistent": ["poison.surrogate.run_dir=another"],
}


@pytest.mark.parametrize("name", options("poison"))
def test_poison(name: str, compose: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustml.load_model", lambda run_dir, which="best": torch.nn.Flatten())
    poison = build(compose(f"poison={name}", "data=cifar10", *POISONED.get(name, []))["poison"])
    assert poison is None if name == "none" else isinstance(poison, Poison)


@pytest.mark.parametrize("name", options("balance"))
def test_balance(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    balance = build(compose(f"balance={name}")["balance"])
    if name == "none":
        assert balance is None
        return
    data = Records(torch.rand(5, 2), torch.tensor([0, 0, 0, 1, 1]), ("a", "b"))
    assert balance(data, data.y, seed=0).y.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("name", options("poison/trigger"))
def test_trigger(name: str, compose: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "logo.png").write_bytes(png(noise(1, 5, 5, 3)[0]))
    words = [f"poison.trigger.file={tmp_path / 'logo.png'}"] if name == "logo" else []
    poison = build(compose("poison=badnets", f"poison/trigger={name}", *words)["poison"])
    assert poison.trigger(torch.rand(2, 3, 16, 16)).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("name", options("threat"))
def test_threat(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    norm = "0" if name == "sparse" else name.removeprefix("l")
    assert build(compose(f"threat={name}")["threat"]).norm == norm


@pytest.fixture
def compose_extraction(compose: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Plain settings of `robustml extract <words>` on digits behind a URL."""
    record({})
    return lambda *words: compose("victim=http://host", "data=digits", "threat=linf", *words, entry="extract")


@pytest.mark.parametrize("name", options("method"))
def test_method(name: str, compose_extraction: Callable[..., dict[str, Any]]) -> None:
    settings = compose_extraction(f"method={name}", "training.steps=7")
    method = build(settings["method"])
    assert isinstance(method, Extraction)
    assert name == "equation" or method.training.steps == 7
    assert build(settings["student"])(torch.rand(1, 1, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize("name", options("pool"))
def test_pool(name: str, compose_extraction: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    settings = compose_extraction(f"pool={name}", *[f"pool.data.root={tmp_path}"] * (name == "another"))
    pool = build(settings["pool"])
    if name == "another":
        assert pool.data.source.root == str(tmp_path)
        return
    data = build(settings["data"])
    data.setup()
    assert pool(data, 3).x.shape == (3, 1, 8, 8)


@pytest.mark.parametrize(
    ("words", "key", "expected"),
    [
        (["pool.data.root=there"], "root", "there"),
        (["data@pool.data=svhn", "pool.data.root=there"], "root", "there"),
        (["data@pool.data=mnist", "data.root=elsewhere"], "root", None),
        (["data@pool.data=hub", "pool.data.source.path=a/b", "pool.data.root=there"], "root", "there"),
        (["pool.data.source.root=there"], "root", "there"),
        (["data@pool.data=tones", "pool.data.source.length=77"], "length", 77),
    ],
)
def test_a_pools_data_follow_their_own_settings(
    words: list[str], key: str, expected: object, compose_extraction: Callable[..., dict[str, Any]]
) -> None:
    """And not those of the victim's data, MNIST here."""
    data = compose_extraction("data=mnist", "pool=another", *words)["pool"]["data"]
    assert data["source"][key] == expected
    if "data@pool.data=hub" in words:
        assert data["name"] == "a/b"
    if key == "length":
        assert data["shape"] == [1, 77]


def test_the_root_of_nested_data_is_their_own(compose: Callable[..., dict[str, Any]]) -> None:
    chosen = ("poison.surrogate.run_dir=x", "poison.rows=[17]", "poison.target=dog")
    settings = compose("data=cats_dogs", "data.root=there", "poison=gradient_matching", *chosen)
    assert settings["data"]["source"]["source"]["root"] == "there"
    assert settings["poison"]["source"]["source"]["root"] == "there"


@pytest.mark.parametrize("name", options("defense"))
def test_defense(name: str, compose_extraction: Callable[..., dict[str, Any]]) -> None:
    settings = compose_extraction(f"defense={name}")["defense"]
    defense = build(with_secret(settings, "hidden"))
    assert defense is None if name == "none" else isinstance(defense, Defense)


@pytest.mark.parametrize("name", options("optimizer"))
def test_optimizer(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    factory = build(compose(f"optimizer={name}")["optimizer"])
    assert isinstance(factory, partial)
    assert isinstance(factory([torch.nn.Parameter(torch.ones(1))]), Optimizer)


@pytest.mark.parametrize("name", options("scheduler"))
def test_scheduler(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    schedule = build(compose(f"scheduler={name}")["scheduler"])
    assert (schedule is None) == (name == "none")
    if schedule is not None:
        assert schedule(SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1), 10).get_last_lr()[0] >= 0


@pytest.mark.parametrize("name", options("objective"))
def test_objective(name: str, compose: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robustml.load_model", lambda run_dir, which: torch.nn.Flatten())
    helper = ["objective.helper.run_dir=another"] if name == "hat" else []
    settings = compose(f"objective={name}", "attack=fgsm", *helper)
    objective = build(settings["objective"])
    assert settings["validation"]["monitor"] == ("clean" if name == "standard" else "adversarial")
    if name == "adversarial":
        assert isinstance(objective.attack, FGSM)


@pytest.mark.parametrize("name", options("evaluation"))
def test_evaluation(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    settings = compose(f"evaluation={name}")["evaluation"]
    assert bool(build_attacks(settings, LpBall("inf", 0.3))) == (name not in ("clean", "corruptions"))
    assert {"seed", "limit", "batch_size", "curve"} <= set(settings)
    assert bool(settings.get("corruptions")) == (name == "corruptions")


@pytest.mark.parametrize("name", options("trainer"))
def test_trainer(name: str, compose: Callable[..., dict[str, Any]]) -> None:
    settings = compose(f"trainer={name}")["trainer"]
    assert settings["inference_mode"] is False
    assert settings["use_distributed_sampler"] is False
    if name in ("cpu", "ddp_cpu"):
        trainer = build(settings, logger=False, enable_checkpointing=False)
        assert trainer.num_devices == (2 if name == "ddp_cpu" else 1)


@pytest.mark.parametrize("name", options("logger"))
def test_logger(name: str, compose: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    loggers = [build(logger) for logger in compose(f"logger={name}")["logger"].values()]
    assert [logger.save_dir for logger in loggers] == ([] if name == "none" else [str(tmp_path)])


@pytest.mark.parametrize("name", options("callbacks"))
def test_callbacks(name: str, compose: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    callbacks = [build(callback) for callback in compose(f"callbacks={name}")["callbacks"].values()]
    assert bool(callbacks) == (name != "none")
    assert all(isinstance(callback, pl.Callback) for callback in callbacks)
    if name == "robust_evaluation":
        assert [callback.folder for callback in callbacks] == [tmp_path / "evaluation"]


def test_several_callbacks_at_once(compose: Callable[..., dict[str, Any]]) -> None:
    settings = compose("callbacks=[ema,health,eps_schedule]", "callbacks.ema.decay=0.5")["callbacks"]
    assert {EMA, CatastrophicOverfitting, AttackSchedule} <= {type(build(callback)) for callback in settings.values()}
    assert settings["ema"]["decay"] == 0.5


@pytest.mark.parametrize("name", [name for name in options("sweep") if name != "defenses"])
def test_sweep(name: str) -> None:
    path = CONFIGS / "sweep" / f"{name}.yaml"
    sweep = yaml.safe_load(path.read_text())
    assert set(sweep) <= {"command", "over", "multiples", "values", "also", "overrides"}
    assert ("multiples" in sweep) != ("values" in sweep)
    assert sweep["command"] in ("train", "evaluate")
    assert path.read_text().startswith("# ")


def test_the_table_of_defenses_names_what_there_is(compose: Callable[..., dict[str, Any]]) -> None:
    sweep = yaml.safe_load((CONFIGS / "sweep" / "defenses.yaml").read_text())
    assert set(sweep["detectors"]) <= set(options("detector"))
    assert set(sweep["repairs"]) <= set(options("repair"))
    for words in [*sweep["poisons"].values(), sweep["hardened"], sweep["surrogate"]]:
        assert compose(f"experiment={sweep['experiment']}", *(word.format(surrogate="run") for word in words))


@pytest.mark.parametrize("name", options("experiment"))
def test_experiment_composes(
    name: str, compose: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustml.load_model", lambda run_dir, which: torch.nn.Flatten())
    settings = compose(f"experiment={name}", *NEEDED.get(f"experiment/{name}", []))
    assert settings["name"] == name
    diff, paper, _ = (CONFIGS / "experiment" / f"{name}.yaml").read_text().partition("\npaper:\n")
    assert len(diff.splitlines()) <= (30 if paper else 20)
    assert build(settings["objective"])
    assert build(settings["threat"]).eps > 0
    assert build_attacks(settings["evaluation"], build(settings["threat"])) or settings["poison"]


# Enough of the real command, on a slow CPU too.
SHORT = (
    "debug=fast",
    "trainer.limit_train_batches=2",
    "data.train_limit=16",
    "data.batch_size=8",
    "data.test_limit=4",
    "validation.attack.steps=1",
    "evaluation.attacks.pgd.steps=1",
    "evaluation.curve=null",
)


def survives(name: str, folder: Path, env: dict[str, str]) -> None:
    steps = [] if name.endswith(("standard", "fgsm_rs", "exact")) else ["attack.steps=1"]
    words = [f"experiment={name}", *SHORT, *steps]
    if name == "cifar10_pgd":  # attacking its large network takes seconds; the attacks are those of the others
        words = [word for word in words if not word.startswith("evaluation.")] + ["evaluation=clean"]
    outcome = command("train", *words, cwd=folder, env=env)
    assert outcome.err == ""
    assert read_results(outcome.run / "results.json").experiment == name


def data_of(name: str) -> str:
    return next(known for known in (*EMBEDDED, "mnist", "cifar10") if known in name)


PLAIN = [name for name in options("experiment") if not is_paper(name)]


@pytest.mark.parametrize("name", [name for name in PLAIN if data_of(name) in EMBEDDED])
def test_experiment_runs(name: str, tmp_path: Path) -> None:
    survives(name, tmp_path, {})


@pytest.mark.parametrize("name", [name for name in PLAIN if data_of(name) not in EMBEDDED])
def test_experiment_runs_on_images_of_noise(name: str, tmp_path: Path) -> None:
    write_noise(tmp_path / "sets", data_of(name))
    survives(name, tmp_path, {"ROBUSTML_DATA": str(tmp_path / "sets")})


def write_noise(folder: Path, data: str) -> None:
    """Sixty images of noise in each part, in the layout of a set of the Hub."""
    shape, column = {"mnist": ((28, 28), "image"), "cifar10": ((32, 32, 3), "img")}[data]
    for part in ("train", "test"):
        images = [png(pixels) for pixels in noise(60, *shape)]
        file = folder / data / f"{part}.parquet"
        write_parquet(file, images, [row % 10 for row in range(60)], CIFAR if column == "img" else None)
        if column != "image":
            rename(file, column)


def rename(path: Path, column: str) -> None:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    renamed = table.rename_columns([column, "label"]).replace_schema_metadata(table.schema.metadata)
    pq.write_table(renamed, path)


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name in PLAIN if data_of(name) not in EMBEDDED])
def test_experiment_runs_on_its_data(name: str, tmp_path: Path) -> None:
    folder = os.environ.get("ROBUSTML_DATA")
    if not folder:
        pytest.skip("ROBUSTML_DATA is not set: no local copies of the real sets")
    cache = Path(os.environ.get("ROBUSTML_CACHE") or tmp_path / "cache")
    survives(name, tmp_path, {"ROBUSTML_DATA": str(Path(folder).resolve()), "ROBUSTML_CACHE": str(cache)})
