"""Every paper's config survives a few batches through the real command, on images of noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from integration.forks import command
from integration.test_configs import write_noise
from robustml.commands.reproduce import known_papers
from robustml.results import read_results
from robustml.results.paper import Variant

PAPERS = known_papers()
SHORT = (
    "debug=fast",
    "trainer.limit_train_batches=2",
    "data.train_limit=16",
    "data.batch_size=8",
    "data.val_size=8",
    "data.test_limit=4",
    "evaluation.curve=null",
)
ATTACKED = ("validation.attack.steps=1", "evaluation.attacks.pgd.steps=1")
NARROW = ("model.depth=10", "model.width=1")
CASCADE = ("~evaluation.attacks.apgd", "~evaluation.attacks.autoattack", *ATTACKED)
GENERATED = ("data.extra.source.path=generated.npz",)
# What makes each quick; what is said here of a paper holds for all of its variants.
WORDS = {
    "alberti2018_cifar10": ("validation.attack.steps=1",),
    "bartoldson2024": (*NARROW, *CASCADE, *GENERATED, "objective.attack.steps=2"),
    "cohen2019_smoothing": (*ATTACKED, "evaluation.certification.n=20", "evaluation.certification.n0=10"),
    "gowal2020_uncovering": (*NARROW, *CASCADE, "objective.attack.steps=2"),
    "gu2017_badnets_mnist": (),
    "madry2018_pgd_cifar10": (*NARROW, *ATTACKED, "attack.steps=2"),
    "madry2018_pgd_mnist": (
        *ATTACKED, "attack.steps=2", "evaluation.attacks.pgd_100.steps=2", "evaluation.attacks.pgd_100_restarts.steps=2"
    ),
    "pang2021_bag_of_tricks": (*NARROW, *CASCADE, "objective.attack.steps=2"),
    "rade2021_hat": CASCADE,
    "rebuffi2021_fixing": (*NARROW, *CASCADE, *GENERATED, "objective.attack.steps=2"),
    "wang2023_dm": (*NARROW, *CASCADE, *GENERATED, "objective.attack.steps=2"),
    "zhang2019_trades_cifar10": (*NARROW, *ATTACKED, "objective.attack.steps=2"),
    "zhang2019_trades_mnist": (*ATTACKED, "objective.attack.steps=2"),
}  # fmt: skip
# Networks of 11 million weights.
SLOW = (
    "andriushchenko2020_gradalign",
    "rade2021_hat",
    "rice2020",
    "shafahi2019_free_cifar10-preact",
    "wang2020",
    "wong2020_fast_cifar10",
    "wu2020",
    "cohen",
)


def cases() -> list[object]:
    """A case a variant; of each paper of small networks the first is quick enough for `make test`."""
    found = []
    for name, paper in PAPERS.items():
        for number, variant in enumerate(paper.variants):
            full = f"{name}-{variant.name}"
            slow = number > 0 or full.startswith(SLOW)
            found.append(pytest.param(name, variant, id=full, marks=[pytest.mark.slow] * slow))
    return found


@pytest.mark.parametrize(("name", "variant"), cases())
def test_a_few_batches(name: str, variant: Variant, tmp_path: Path) -> None:
    data = "mnist" if "mnist" in name else "cifar10"
    write_noise(tmp_path / "sets", data)
    np.savez(tmp_path / "generated.npz", image=np.zeros((20, 32, 32, 3), np.uint8), label=np.arange(20) % 10)
    env = {"ROBUSTML_DATA": str(tmp_path / "sets")}
    own = [word.replace("{folder}", str(tmp_path)).replace("{seed}", "0") for word in variant.overrides]
    words = ["train", f"experiment={name}", *own, *SHORT, *WORDS.get(name, ATTACKED)]
    words += narrower(own)
    if name == "rade2021_hat" and variant.name == "hat":
        helper = [*words[:2], "objective=standard", *words[3:], f"hydra.run.dir={tmp_path}/helper/seed-0"]
        assert command(*[word for word in helper if "objective." not in word], cwd=tmp_path, env=env).status == 0
    outcome = command(*words, cwd=tmp_path, env=env)
    assert outcome.err == ""
    assert read_results(outcome.run / "results.json").experiment == name


def narrower(overrides: list[str]) -> list[str]:
    """The wide networks that a variant chooses, made narrow."""
    return [*NARROW] if any(word.startswith("model.depth=") for word in overrides) else []


def test_what_is_published_was_seen_somewhere() -> None:
    for name, paper in PAPERS.items():
        assert paper.id == name
        assert paper.published or paper.shown, name
        for figure in paper.published:
            assert "memory" not in figure.source, name
        assert paper.fidelity == "exact" or paper.deviations, f"{name} is {paper.fidelity}, and says not why"
        # What a figure of a plot tells is right to 0.015 at best.
        assert all(figure.tolerance >= 0.015 for figure in paper.published if figure.seen == "figure"), name


def test_every_training_paper_is_there() -> None:
    papers = """
        alberti2018_cifar10 andriushchenko2020_cnn4 andriushchenko2020_gradalign bartoldson2024 cohen2019_smoothing
        goodfellow2015_fgsm_mnist gowal2020_uncovering gu2017_badnets_mnist madry2018_pgd_cifar10 madry2018_pgd_mnist
        pang2021_bag_of_tricks rade2021_hat rebuffi2021_fixing rice2020_overfitting robust_methods_mnist
        shafahi2019_free_cifar10 wang2020_mart wang2023_dm wong2020_fast_cifar10 wong2020_fast_mnist wu2020_awp
        zhang2019_trades_cifar10 zhang2019_trades_mnist
    """
    assert set(PAPERS) == set(papers.split())
    assert {name for name, paper in PAPERS.items() if paper.budget.device == "many-gpu"} == {
        "bartoldson2024", "gowal2020_uncovering", "rebuffi2021_fixing", "wang2023_dm"
    }  # fmt: skip
