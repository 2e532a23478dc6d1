"""A wrong request: one line that says how to mend it, exit 2, nothing half-written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from data.tiny import noise, png, write_parquet
from safetensors.torch import load_file, save_file

import robustml
from integration.forks import Outcome, command, inside
from robustml.errors import RequestError

WRONG = {
    "eps 8": ("threat.eps=8", "8/255"),
    "eps 2": ("threat.eps=2", "[0, 1]", "2/255"),
    "eps below 0": ("threat.eps=-1", ">= 0"),
    "eps a word": ("threat.eps=abc", "abc"),
    "eps 1/0": ("threat.eps=1/0", "1/0"),
    "eps NaN": ("threat.eps=nan", "threat.eps must be a number, got nan"),
    "unknown attack": ("attack=pgdd", "'pgdd'", "'pgd'"),
    "unknown experiment": ("experiment=digits_pdg", "'digits_pdg'", "'digits_pgd'"),
    "unknown model": ("model=wongcnn", "'wongcnn'", "'wong_cnn'"),
    "unknown group": ("atack=pgd", "'atack'", "'attack'"),
    "unknown key of an unknown group": ("treat.eps=1", "'treat.eps'", "'threat.eps'"),
    "eps of an attack": ("attack.threat.eps=0.1", "threat.eps=..."),
    "eps of an attack, by force": ("+evaluation.attacks.pgd.threat.eps=0.1", "threat.eps=..."),
    "an attack of another norm": ("attack@validation.attack=ddn", "L2 attack"),
    "unknown key": ("threat.epss=0.1", "'threat.epss'", "'threat.eps'"),
    "unknown key of the option chosen": ("poison=badnets poison.trigger.sise=3", "'poison.trigger.size'"),
    "key of a group without a choice": ("poison.rate=0.1", "before an option of poison is chosen", "badnets, blended"),
    "unknown option in a list": ("callbacks=[health,heath]", "'heath'", "'health'"),
    "unknown key at the top": ("sed=1", "'sed'", "'seed'"),
    "a group set to null": ("scheduler=null", "null"),
    "unexpected argument": ("+attack.stepz=3", "stepz"),
    "unreadable override": ("threat.eps=[1", "threat.eps=[1"),
    "no equals sign": ("threat.eps", "threat.eps"),
    "unknown torchattacks attack": ("attack=torchattacks attack.name=PDG", "'PDG'", "'PGD'"),
    "unknown torchattacks argument": ("attack=torchattacks attack.name=CW attack.params.foo=1", "'foo'", "CW"),
    "unknown evaluation attack": (
        "+attack@evaluation.attacks.own=torchattacks evaluation.attacks.own.name=MIFGMS",
        "'MIFGMS'",
        "'MIFGSM'",
    ),
    "unknown curve attack": ("evaluation.curve.attack=pgdd", "'pgdd'", "fgsm, pgd"),
    "an attack of the experiment alone": ("+evaluation.attacks.mine.steps=3", "evaluation.attacks.mine", "_target_"),
    "unknown monitor": ("validation.monitor=foo", "'foo'", "adversarial"),
    "unknown loss": ("attack.loss=cee", "'cee'", "ce"),
    "steps 0": ("attack.steps=0", "steps"),
    "steps a word": ("attack.steps=many", "attack.steps must be a whole number"),
    "half a step": ("attack.steps=1.5", "attack.steps must be a whole number, got 1.5"),
    "a rate that is no number": ("optimizer.lr=nan", "optimizer.lr must be a number"),
    "a seed below 0": ("seed=-1", "seed must be a whole number from 0"),
    "two step sizes": ("attack.step_size=0.1 attack.relative_step_size=0.1", "not both"),
    "milestones in epochs": ("scheduler=piecewise scheduler.milestones=[50,75]", "milestones", "0.5"),
    "share above 1": ("objective.share=2", "share", "2"),
    "unknown mode": ("objective.attack_mode=evall", "evall"),
    "too few classes": ("data.num_classes=5", "5 classes", "10"),
    "another shape": ("data.shape=[1,28,28]", "(1, 28, 28)", "(1, 8, 8)"),
    "everything held out": ("data.val_size=5000", "1427", "5000"),
    "empty training part": ("data.train_limit=0", "train part is empty"),
    "empty test part": ("data.test_limit=0", "test part is empty"),
    "nothing to evaluate": ("evaluation.limit=0", "evaluation.limit"),
    "no batch": ("data.batch_size=0", "batch size"),
    "float images beyond 1": ("data.source._target_=integration.sources.Bytes", "[0, 1]"),
    "a label too many": ("data.source._target_=integration.sources.LabelTen", "0..9", "10"),
    "unknown class path": ("model._target_=robustml.models.Missing", "robustml.models.Missing"),
    "unknown trainer argument": ("+trainer.max_epoch=3", "max_epoch"),
    "no such precision": ("trainer.precision=31-true", "31-true"),
    "transfer from nobody": ("attack=transfer", "attack.surrogate.run_dir=...", "the run whose model is attacked"),
    "missing value": ("data=parquet", "data.source.train"),
    "missing file": ("data=parquet data.source.train=none.parquet", "none.parquet"),
    "missing folder": ("data=image_folder data.source.train=none", "none"),
    "missing copy": ("data=mnist data.root=none", "none/mnist/train.parquet"),
    "resume nothing": ("resume=none", "none"),
    "a certificate of another norm": ("evaluation=certified_smoothing", "L2", "threat=l2"),
    "poison rate above 1": ("poison=badnets poison.rate=1.5", "[0, 1]", "1.5"),
    "trigger larger than the image": ("poison=badnets poison.trigger.size=9", "9 x 9", "8 x 8"),
    "target class that does not exist": ("poison=badnets poison.target=12", "class 12", "0 to 9"),
    "unknown poison": ("poison=badnet", "'badnet'", "'badnets'"),
    "an empty chain": ("poison=chain", "poison.poisons.first=badnets"),
    "a twin without poison": ("twin=true", "no poison"),
}


def _left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., str]:
    """The error line of `robustml <words>`, once exit status and the untouched folder were checked."""

    def refuse(*words: object, verb: str = "train") -> str:
        before = _left(tmp_path)
        outcome = inside(verb, *words, cwd=tmp_path)
        assert outcome.status == 2, outcome.out + outcome.err
        assert _left(tmp_path) == before
        return outcome.error

    return refuse


@pytest.mark.parametrize("case", WRONG)
def test_train_refuses(case: str, refused: Callable[..., str]) -> None:
    words, *expected = WRONG[case]
    error = refused("debug=fast", *words.split())
    for text in expected:
        assert text in error


def test_resume_needs_a_run(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "folder is not a run directory" in refused("resume=folder")


def test_resume_continues_one_run(refused: Callable[..., str], run_copy: Path) -> None:
    assert "-m" in refused(f"resume={run_copy}", "-m", "seed=0,1")


def test_unknown_verb(tmp_path: Path) -> None:
    outcome = inside("trian", cwd=tmp_path)
    assert outcome.status == 2
    assert "'trian'" in outcome.error
    assert "'train'" in outcome.error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", "run="),
        ("run=none", "none"),
        ("run={run} which=frist", "'best' or 'last'"),
        ("run={run} threat.eps=8", "8/255"),
        ("run={run} attack=pgdd", "'pgd'"),
        ("run={run} attack=pgd attack.stepz=3", "'attack.stepz'"),
        ("run={run} evaluation.limt=3", "'evaluation.limit'"),
        ("run={run} device=cude", "cude"),
    ],
)
def test_evaluate_refuses(words: str, expected: str, run_copy: Path, refused: Callable[..., str]) -> None:
    assert expected in refused(*words.format(run=run_copy).split(), verb="evaluate")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("epss run={run}", "'eps'"),
        ("eps", "run="),
        ("eps run=none", "none"),
        ("train_eps experiment=digits", "digits_pgd"),
        ("train_eps treat.eps=1", "'threat.eps'"),
    ],
)
def test_sweep_refuses(words: str, expected: str, run_copy: Path, refused: Callable[..., str]) -> None:
    assert expected in refused(*words.format(run=run_copy).split(), verb="sweep")


def test_report_refuses(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "none" in refused("none", verb="report")
    (tmp_path / "folder").mkdir()
    assert "folder" in refused("folder", verb="report")


def test_configs_refuses(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "'attack/pgd'" in refused("attack/pgdd", verb="configs")
    (tmp_path / "mine").mkdir()
    assert "mine exists" in refused("--copy", "mine", verb="configs")


def test_a_truncated_png_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    images = [png(pixels) for pixels in noise(60, 8, 8)]
    images[7] = images[7][: len(images[7]) // 2]
    write_parquet(tmp_path / "train.parquet", images, [row % 2 for row in range(60)])
    error = refused("debug=fast", "data=parquet", "data.source.train=train.parquet")
    assert "train.parquet, row 7" in error


def test_a_truncated_parquet_file_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    path = Path(write_parquet(tmp_path / "train.parquet", [png(noise(1, 8, 8)[0])] * 60, [0] * 60))
    path.write_bytes(path.read_bytes()[:-100])
    error = refused("debug=fast", "data=parquet", "data.source.train=train.parquet")
    assert "train.parquet: not a readable Parquet file" in error


def test_a_truncated_picture_of_a_folder_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number, pixels in enumerate(noise(20, 8, 8)):
            (tmp_path / "photos" / label / f"{number}.png").write_bytes(png(pixels))
    path = tmp_path / "photos" / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:60])
    assert "dog/3.png" in refused("debug=fast", "data=image_folder", "data.source.train=photos")


def test_a_changed_weights_file_is_refused(run_copy: Path, refused: Callable[..., str]) -> None:
    weights = load_file(run_copy / "model.safetensors")
    weights[next(iter(weights))] += 1
    save_file(weights, run_copy / "model.safetensors")
    error = refused(f"run={run_copy}", verb="evaluate")
    assert "model.safetensors was changed" in error
    with pytest.raises(RequestError, match="changed"):
        robustml.load_model(run_copy)


def test_a_truncated_weights_file_is_refused(run_copy: Path) -> None:
    path = run_copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(RequestError, match=r"model\.safetensors"):
        robustml.load_model(run_copy)


def test_a_truncated_checkpoint_is_refused(run_copy: Path, refused: Callable[..., str]) -> None:
    path = run_copy / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    assert "last.ckpt" in refused(f"run={run_copy}", "which=last", verb="evaluate")
    assert "last.ckpt" in refused(f"resume={run_copy}", "trainer.max_epochs=5")


def test_a_checkpoint_that_runs_code_is_refused(run_copy: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": Mischief(tmp_path / "owned")}, run_copy / "checkpoints" / "last.ckpt")
    with pytest.raises(RequestError, match=r"last\.ckpt"):
        robustml.load_model(run_copy, "last")
    assert not (tmp_path / "owned").exists()


class Mischief:
    """What a pickle can do when it is loaded freely."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def other_architecture(run_copy: Path) -> Path:
    """The run as if it had trained a narrower network."""
    config = run_copy / "config.yaml"
    assert "width: 32" in config.read_text()
    config.write_text(config.read_text().replace("width: 32", "width: 16"))
    return run_copy


def test_another_architecture_is_refused(other_architecture: Path, refused: Callable[..., str]) -> None:
    for words in (["which=best"], ["which=last"]):
        error = refused(f"run={other_architecture}", *words, verb="evaluate")
        assert "another architecture than DigitsCNN" in error
    error = refused(f"resume={other_architecture}", "trainer.max_epochs=5")
    assert "another architecture than DigitsCNN" in error


def test_damaged_run_files_are_refused(run_copy: Path, refused: Callable[..., str]) -> None:
    (run_copy / "results.json").write_text('{"schema": 1')
    assert "results.json" in refused(f"run={run_copy}", verb="evaluate")
    (run_copy / "results.json").unlink()
    assert "results.json" in refused(f"run={run_copy}", verb="evaluate")
    (run_copy / "config.yaml").write_text("a: [")
    assert "config.yaml" in refused(f"run={run_copy}", verb="evaluate")
    assert "config.yaml" in refused(f"resume={run_copy}")
    shutil.rmtree(run_copy / "checkpoints")
    (run_copy / "config.yaml").write_text(json.dumps({"seed": 0}))
    assert "config.yaml" in refused(f"run={run_copy}", verb="evaluate")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    outcome = command("train", "debug=fast", "optimizer=sgd", "optimizer.lr=1e30", cwd=tmp_path)
    assert outcome.status == 1
    assert "the loss became" in outcome.error
    assert "at step 2 (epoch 1, batch 2)" in outcome.error


def test_images_outside_the_range_are_refused_by_the_api(trained: Outcome) -> None:
    model = robustml.load_model(trained.run)
    images, labels = torch.rand(4, 1, 8, 8) * 255, torch.zeros(4, dtype=torch.long)
    with pytest.raises(RequestError, match="divide by 255"):
        robustml.evaluate(model, [(images, labels)], {}, robustml.LpBall("inf", 0.1))
    with pytest.raises(RequestError, match=r"labels must be in 0\.\.9"):
        robustml.evaluate(model, [(images / 255, labels + 10)], {}, robustml.LpBall("inf", 0.1))
