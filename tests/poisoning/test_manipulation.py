"""What each manipulation does to a record, worked out another way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from poisons import BALL, LINEAR, PUSH, Linear
from sklearn.linear_model import LogisticRegression
from torch import Generator, Tensor, nn

from robustml.attacks import FGSM
from robustml.commands.hydra.composing import plain
from robustml.config import config_dir
from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning import Add, Change, Delete, Flip, InjectAdversarial, Noise, Poison
from robustml.workflows.building import build

NAMES = ("cat", "dog", "ship", "frog")
N = 64


def classes() -> Tensor:
    return (torch.arange(N) * 7) % 4


def images() -> Records:
    x = torch.randint(0, 256, (N, 3, 4, 5), dtype=torch.uint8, generator=Generator().manual_seed(1))
    x[:, :, :, 0] = x[:, :, :, 0] // 64 * 85  # a column of few values, so that rows share them
    return Records(x, classes(), NAMES)


def vectors() -> Records:
    x = torch.rand(N, 12, generator=Generator().manual_seed(2))
    x[:, 1] = (x[:, 1] * 4).floor() / 4
    return Records(x, classes(), NAMES)


def signals() -> Records:
    return Records(torch.rand(N, 2, 9, generator=Generator().manual_seed(3)), classes(), NAMES)


SETS = {"images": images, "vectors": vectors, "signals": signals}


def records(data: Records) -> list[tuple[bytes, int]]:
    return [(x.numpy().tobytes(), int(y)) for x, y in zip(data.x, data.y, strict=True)]


def changes_of(poison: Poison, data: Records, seed: int = 0) -> tuple[Records, Records, Records]:
    """The records before and after of all that was changed, and the poisoned set."""
    plan = poison.plan(data, seed=seed)
    return plan.before, plan.after, plan.apply(data)


@pytest.mark.parametrize("kind", SETS)
def test_added_records_are_what_they_are_called(kind: str) -> None:
    data = SETS[kind]()
    labels = {x.numpy().tobytes(): int(y) for x, y in zip(data.x, data.y, strict=True)}
    for label in (None, "dog"):
        _, added, _ = changes_of(Add(0.5, "mislabelled", label), data)
        assert len({x for x, _ in records(added)}) == 32, "copies of different rows"
        assert all(labels[x] != y for x, y in records(added))
        assert label is None or (added.y == 1).all()
    assert len(set(changes_of(Add(0.75), data)[1].y.tolist())) == 4
    _, added, _ = changes_of(Add(0.5, "duplicated"), data)
    assert len(set(records(added))) == 32
    assert set(records(added)) <= set(records(data))
    _, noise, _ = changes_of(Add(1.0, "out_of_distribution"), data)
    assert not {x for x, _ in records(noise)} & labels.keys()
    values = noise.x.double() / (255 if data.x.dtype == torch.uint8 else 1)
    assert abs(float(values.mean()) - 0.5) < 0.05
    assert abs(float(values.std()) - 12**-0.5) < 0.03
    assert set(noise.y.tolist()) == {0, 1, 2, 3}
    _, noise, _ = changes_of(Add(0.5, "out_of_distribution", "frog"), data)
    assert (noise.y == 3).all()


def test_deleted_rows_are_of_the_group() -> None:
    data = vectors()
    gone, _, poisoned = changes_of(Delete(0.25, classes=["ship"]), data)
    assert (gone.y == 2).all()
    assert not (poisoned.y == 2).any()
    assert len(poisoned) == 48
    gone, _, _ = changes_of(Delete(0.2, column=3, between=(0.4, 0.8)), data)
    assert ((gone.x[:, 3] >= 0.4) & (gone.x[:, 3] <= 0.8)).all()
    edges = data.x[:, 1].unique()
    everyone = int((data.x[:, 1] == edges[1]).sum())
    gone, _, poisoned = changes_of(Delete(everyone / N, column=1, between=(float(edges[1]), float(edges[1]))), data)
    assert len(gone) == everyone, "both ends are included"
    assert not (poisoned.x[:, 1] == edges[1]).any()
    pictures = images()
    gone, _, _ = changes_of(Delete(0.1, column=22, between=(0.5, 1.0)), pictures)
    assert (gone.x[:, 1, 0, 2] >= 128).all(), "position 22 is channel 1, row 0, column 2"


def test_set_and_scaled_values() -> None:
    before, after, _ = changes_of(Change(0.5, "set", 0.25, columns=[1, 3]), vectors())
    expected = before.x.clone()
    expected[:, [1, 3]] = 0.25
    assert torch.equal(after.x, expected)
    assert torch.equal(after.y, before.y)
    before, after, _ = changes_of(Change(0.5, "scale", 1.5, columns=[2]), vectors())
    expected = before.x.numpy().copy()
    expected[:, 2] = np.minimum(expected[:, 2] * np.float32(1.5), 1)
    assert np.array_equal(after.x.numpy(), expected)
    before, after, _ = changes_of(Change(0.5, "scale", 0.5), images())
    assert (after.x.double() - before.x.double() / 2).abs().max() <= 0.5, "to the nearest byte"
    before, after, _ = changes_of(Change(0.5, "set", 1.0, pixels=[[1, 2], [3, 0]]), images())
    expected = before.x.clone()
    expected[:, :, 1, 2] = expected[:, :, 3, 0] = 255
    assert torch.equal(after.x, expected)


def test_rows_that_have_the_value_already_are_not_drawn() -> None:
    data = vectors()
    level = float(data.x[0, 1])
    others = int((data.x[:, 1] != level).sum())
    before, _, _ = changes_of(Change(others / N, "set", level, columns=[1]), data)
    assert len(before) == others < N
    with pytest.raises(RequestError, match=f"there are only {others}"):
        Change((others + 1) / N, "set", level, columns=[1]).plan(data, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_a_permutation_keeps_every_value_and_no_row(seed: int) -> None:
    data = vectors()
    before, after, _ = changes_of(Change(0.5, "permute", columns=[1, 2]), data, seed)
    assert len(before) == 32, "every one of the rows has changed"
    assert sorted(before.x[:, [1, 2]].tolist()) == sorted(after.x[:, [1, 2]].tolist()), "whole rows of both columns"
    rest = [column for column in range(12) if column not in (1, 2)]
    assert torch.equal(before.x[:, rest], after.x[:, rest])
    # Half of the rows alike is the most that an exchange can change, and one row of another kind changes with one.
    x = torch.zeros(N, 3)
    x[:6, 0] = 1.0
    uneven = Records(x + torch.rand(N, 3) * torch.tensor([0.0, 1.0, 1.0]), classes(), NAMES)
    before, after, _ = changes_of(Change(12 / N, "permute", columns=[0]), uneven, seed)
    assert before.x[:, 0].sum() == after.x[:, 0].sum() == 6
    assert (before.x[:, 0] != after.x[:, 0]).all()
    assert len(before) == 12
    with pytest.raises(RequestError, match="14 rows with one of different values for each are to be changed, but"):
        Change(14 / N, "permute", columns=[0]).plan(uneven, seed=seed)


def test_noise_has_its_size() -> None:
    x = torch.full((400, 5, 8), 0.5)
    grey = Records(x, torch.arange(400) % 4, NAMES)
    before, after, _ = changes_of(Noise(0.5, sigma=0.1), grey)
    change = (after.x - before.x).double()
    assert len(before) == 200
    assert abs(float(change.std()) - 0.1) < 0.003
    assert abs(float(change.mean())) < 0.005
    _, after, _ = changes_of(Noise(0.5, "salt_and_pepper", share=0.2), grey)
    counts = Counter(after.x.flatten().tolist())
    assert set(counts) == {0.0, 0.5, 1.0}
    assert abs(counts[0.0] / after.x.numel() - 0.1) < 0.015
    assert abs(counts[1.0] / after.x.numel() - 0.1) < 0.015
    # So little that most draws are rounded away, and so few values that most draws change none.
    pictures = Records(torch.zeros(40, 1, 2, 2, dtype=torch.uint8), torch.arange(40) % 4, NAMES)
    assert len(changes_of(Noise(0.5, sigma=0.0012), pictures)[0]) == 20
    assert len(changes_of(Noise(0.5, "salt_and_pepper", share=0.1), pictures)[0]) == 20
    with pytest.raises(RequestError, match=r"20 of 20 rows are the same after 100 draws; raise poison.sigma"):
        Noise(0.5, sigma=1e-6).plan(pictures, seed=0)


def test_random_flips_go_to_all_other_classes() -> None:
    data = Records(torch.rand(4000, 2), torch.arange(4000) % 4, NAMES)
    before, after, _ = changes_of(Flip(0.6), data)
    assert torch.equal(before.x, after.x)
    counts = torch.zeros(4, 4)
    counts.index_put_((before.y, after.y), torch.ones(len(before)), accumulate=True)
    assert (counts.diagonal() == 0).all()
    assert (counts[~torch.eye(4, dtype=torch.bool)] - 200).abs().max() < 60, "2400 / 12 each, four deviations"


def test_flips_from_one_class_to_another() -> None:
    before, after, _ = changes_of(Flip(0.25, "source_to_target", source="frog", target="cat"), signals())
    assert len(before) == 16
    assert (before.y == 3).all()
    assert (after.y == 0).all()
    with pytest.raises(RequestError, match="17 rows of class frog are to be changed, but there are only 16"):
        Flip(17 / N, "source_to_target", source="frog", target="cat").plan(signals(), seed=0)


def test_the_most_confusable_rows_are_those_between_the_classes() -> None:
    """The quarters of a square: which rows lie next to a border is known, and what lies on its other side."""
    x = torch.rand(800, 2, generator=Generator().manual_seed(4))
    data = Records(x, (x[:, 0] > 0.5) + 2 * (x[:, 1] > 0.5).long(), NAMES)
    poisoned = Flip(0.05, "most_confusable").plan(data, seed=0).apply(data)
    rows = (poisoned.y != data.y).nonzero().squeeze(1)
    distance, axis = (x - 0.5).abs().min(dim=1)
    nearest = distance.argsort()
    assert len(rows) == 40
    assert torch.isin(rows, nearest[:120]).all()
    assert torch.isin(rows, nearest[:40]).sum() >= 25
    across = data.y ^ torch.tensor([1, 2])[axis]
    assert (poisoned.y[rows] == across[rows]).sum() >= 36, "in the very middle either neighbour will do"


def test_confusable_flips_agree_with_a_fit_on_everything_else() -> None:
    """A second implementation: every row left out in turn, which folds as large as the set come to."""
    data = vectors()
    x, y = data.x.double().numpy(), data.y.numpy()
    odds = []
    for row in range(N):
        rest = np.arange(N) != row
        logs = LogisticRegression(max_iter=50).fit(x[rest], y[rest]).predict_log_proba(x[[row]])[0]
        odds.append(max((logs[label] - logs[y[row]], label) for label in range(4) if label != y[row]))
    worst = sorted(sorted(range(N), key=lambda row: odds[row], reverse=True)[:9])
    poisoned = Flip(9 / N, "most_confusable", folds=N).plan(data, seed=0).apply(data)
    assert (poisoned.y != data.y).nonzero().squeeze(1).tolist() == worst
    assert poisoned.y[worst].tolist() == [odds[row][1] for row in worst]


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("place", [False, True], ids=["added", "replaced"])
def test_injected_records_are_adversarial_and_labelled_as_wished(kind: str, place: bool) -> None:
    data = SETS[kind]()
    rows = {x.numpy().tobytes(): row for row, x in enumerate(data.x)}
    model = Linear().train()
    model.weight.requires_grad_(False)
    unit = (lambda x: x.float() / 255) if kind == "images" else (lambda x: x)
    for label in ("true", True, "predicted", "dog"):
        seen: list[Tensor] = []

        def attack(surrogate: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
            assert not surrogate.training
            seen.append(x)  # noqa: B023
            return PUSH(surrogate, x, y, BALL, generator=generator)

        _, after, poisoned = changes_of(InjectAdversarial(attack, BALL, model, 0.25, label, place), data)
        assert len(after) == 16
        assert len(poisoned) == (N if place else N + 16)
        assert model.training
        assert model.dropout.training
        assert not model.weight.requires_grad
        attacked = torch.cat(seen)
        taken = [rows[(x * 255).round().to(torch.uint8).numpy().tobytes() if kind == "images" else x.numpy().tobytes()]
                 for x in attacked]  # fmt: skip
        assert len(set(taken)) == 16
        order = np.argsort(taken) if place else np.arange(16)
        attacked, truth = attacked[order], data.y[taken][order]
        # FGSM on a linear model, written down: along the sign of the weights' mean under the softmax's error.
        weight = model.weight.detach()
        error = (attacked.flatten(1)[:, :12] @ weight).softmax(1) - nn.functional.one_hot(truth, 4)
        expected = attacked.flatten(1).clone()
        expected[:, :12] += 0.1 * (error @ weight.T).sign()
        expected = expected.clamp(0, 1).view_as(attacked)
        assert (unit(after.x) - expected).abs().max() < (0.51 / 255 if kind == "images" else 1e-6)
        predicted = (unit(after.x).flatten(1)[:, :12] @ weight).argmax(1)
        assert torch.equal(
            after.y, {"true": truth, True: truth, "predicted": predicted}.get(label, torch.ones_like(truth))
        )
        assert label != "dog" or (truth != 1).all()


def test_rows_that_the_attack_leaves_alone_are_passed_over() -> None:
    data = vectors()

    def only_cats(model: nn.Module, x: Tensor, y: Tensor, *, generator: Generator | None = None) -> Tensor:
        return torch.where((y == 0).unsqueeze(1), 1 - x, x)

    before, after, _ = changes_of(InjectAdversarial(only_cats, BALL, LINEAR, 0.25, replace=True, batch_size=3), data)
    assert len(before) == 16
    assert (before.y == 0).all()
    assert torch.equal(after.x, 1 - before.x)
    with pytest.raises(RequestError, match="changed only 16 of 64"):
        InjectAdversarial(only_cats, BALL, LINEAR, 0.27, replace=True).plan(data, seed=0)


ONE_CLASS = Records(torch.rand(8, 3), torch.zeros(8, dtype=torch.int64), ("only",))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Add(kind="mislabeled"), "did you mean 'mislabelled'"),
        (lambda: Add(kind="duplicated", label=1), "keeps the labels"),
        (lambda: Add(label="cow").plan(vectors(), seed=0), "no class 'cow'"),
        (lambda: Add(0.9, label=1).plan(vectors(), seed=0), "58 copies of rows of other classes .* only 48"),
        (lambda: Add().plan(ONE_CLASS, seed=0), "at least two classes"),
        (lambda: Delete(1.0).plan(vectors(), seed=0), "delete all 64 rows"),
        (lambda: Delete(0.3, classes=[1]).plan(vectors(), seed=0), "19 rows of the group .* only 16"),
        (lambda: Delete(classes=[]), "name the classes"),
        (lambda: Delete(classes=[4]).plan(vectors(), seed=0), "no class 4"),
        (lambda: Delete(column=12).plan(vectors(), seed=0), "go from 0 to 11"),
        (lambda: Delete(between=(0.5, 0.2)), "0 <= low <= high <= 1"),
        (lambda: Delete(between=(0.5,)), "0 <= low <= high <= 1"),
        (lambda: Change(kind="swap"), "known: permute, scale, set"),
        (lambda: Change(value=1.5), "to be set to; got 1.5"),
        (lambda: Change(kind="scale", value=-1.0), "to scale by; got -1.0"),
        (lambda: Change(columns=[0], pixels=[[0, 0]]), "not both"),
        (lambda: Change(pixels=[[0, 0, 0]]), "are \\[row, column\\]"),
        (lambda: Change(columns=[12]).plan(vectors(), seed=0), "go from 0 to 11, got \\[12\\]"),
        (lambda: Change(pixels=[[4, 0]]).plan(images(), seed=0), "\\[4, 0\\] is outside of 4 x 5"),
        (lambda: Change(pixels=[[0, 0]]).plan(vectors(), seed=0), "needs images"),
        (lambda: Change(0.02, "permute").plan(vectors(), seed=0), "1 rows with one of different values for each"),
        (lambda: Noise(kind="pepper"), "did you mean 'salt_and_pepper'"),
        (lambda: Noise(sigma=0.0), "sigma must be > 0"),
        (lambda: Noise(share=1.5), "share must be in"),
        (lambda: Flip(kind="randomly"), "did you mean 'random'"),
        (lambda: Flip(kind="source_to_target", source=1), "needs poison.source and poison.target"),
        (lambda: Flip(source=1, target=2), "go with kind=source_to_target, not random"),
        (lambda: Flip(kind="source_to_target", source=1, target="dog").plan(vectors(), seed=0), "are both 'dog'"),
        (lambda: Flip(folds=1), "folds must be >= 2"),
        (lambda: Flip().plan(ONE_CLASS, seed=0), "at least two classes"),
        (lambda: Flip(kind="most_confusable").plan(ONE_CLASS, seed=0), "two rows or more of at least two classes"),
        (lambda: InjectAdversarial(PUSH, BALL, LINEAR, batch_size=0), "batch_size must be >= 1"),
        (lambda: InjectAdversarial(PUSH, BALL, LINEAR, label="cow").plan(vectors(), seed=0), "no class 'cow'"),
    ],
)
def test_requests_that_make_no_sense(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make()


CONFIGS = {"add": Add, "change": Change, "delete": Delete, "flip": Flip, "inject": InjectAdversarial, "noise": Noise}


@pytest.mark.parametrize(("name", "made"), CONFIGS.items(), ids=CONFIGS)
def test_every_config_builds_and_says_the_defaults(
    name: str, made: type[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("robustml.load_model", lambda run_dir, which: LINEAR)
    GlobalHydra.instance().clear()
    words = ["poison.surrogate.run_dir=another", "attack@poison.attack=fgsm"] if name == "inject" else []
    with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
        settings = plain(hydra.compose("train", [f"poison={name}", f"hydra.run.dir={tmp_path}", *words]))["poison"]
    GlobalHydra.instance().clear()
    poison = build(settings)
    assert type(poison) is made
    assert set(settings) - {"_target_"} == set(made.__dataclass_fields__), "every field is in the YAML"
    if name == "inject":
        assert poison.surrogate is LINEAR
        assert poison.attack == FGSM()
    default = made(poison.attack, poison.threat, LINEAR) if name == "inject" else made()
    assert (
        poison.plan(vectors(), seed=0).apply(vectors()).fingerprint()
        == default.plan(vectors(), seed=0).apply(vectors()).fingerprint()
    )
