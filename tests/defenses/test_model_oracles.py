"""Detectors of models against what can be worked out by hand, and on models whose backdoor was planted."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from scipy import optimize, special
from torch import Generator, Tensor, nn

from defenses.planted import SEEDS, planted
from robustml.data import Records
from robustml.defenses.detect import MMBD, NeuralCleanse, PatchSearch, ShortcutSearch
from robustml.errors import RequestError
from robustml.trojans import Trojaned, TrojanNet, draw_commands, train_trojannet, triggers
from robustml.types import Suspicion

NAMES = tuple("abcde")


def linear(weights: Tensor) -> nn.Module:
    """Inputs (N, D) to their products with weights (C, D)."""
    model = nn.Linear(weights.shape[1], len(weights), bias=False)
    with torch.no_grad():
        model.weight.copy_(weights)
    return model.eval()


def seeded(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_neural_cleanse_finds_the_least_mask_of_a_linear_model() -> None:
    """Class k reads its own 4 inputs by weight 10, class 0 by 40; clean ones have a logit of 10 in their own class.

    So a mask of 1 in all, spread over its own inputs, is what a class must have to turn them, and 1/4 does for class 0.
    To wipe out what is there instead takes more: that it stands in another place for each class.
    """
    weights = 10 * torch.eye(5).repeat_interleave(4, dim=1)
    weights[0] *= 4
    y = torch.arange(50) % 4 + 1
    x = 0.25 * torch.eye(5).repeat_interleave(4, dim=1)[y]
    clean = Records(x, y, NAMES)
    found = NeuralCleanse(steps=400, batch_size=8)(linear(weights), clean, clean, generator=seeded())
    torch.testing.assert_close(torch.tensor(found.facts["norms"]), torch.tensor([0.25, 1, 1, 1, 1]), rtol=0.2, atol=0)
    assert found.facts["class"] == 0
    assert found.facts["ratio"] == pytest.approx(0.25, abs=0.05)
    assert found.says_so


def test_neural_cleanse_asks_for_the_index_and_for_the_ratio() -> None:
    """The median of 6, 9, 10, 10.5, 11 is 10, and log 1.1 the median of how far their logarithms are from its."""
    found = NeuralCleanse().judge(torch.tensor([9.0, 6.0, 10.0, 10.5, 11.0]))
    assert (found.facts["class"], found.facts["ratio"]) == (1, 0.6)
    assert found.facts["index"] == pytest.approx(math.log(10 / 6) / (1.4826 * math.log(1.1)))
    assert not found.says_so, "an index above 2 is common, half a median is not"
    assert NeuralCleanse(threshold=1.6).judge(torch.tensor([9.0, 6.0, 10.0, 10.5, 11.0])).says_so


def test_mm_bd_finds_the_largest_margins_of_a_linear_model() -> None:
    """Each class reads one input of its own by its weight: in the box, its margin is the weight at most."""
    weights = torch.tensor([5.0, 4, 6, 30, 5.5])
    data = Records(torch.rand(4, 5), torch.tensor([0, 1, 2, 3]), NAMES)
    found = MMBD()(linear(weights.diag()), data, generator=seeded())
    torch.testing.assert_close(torch.tensor(found.facts["margins"]), weights, rtol=1e-2, atol=0)
    # the likeliest Gamma distribution of the others has log k - digamma(k) = log(mean) - mean(log), and scale mean / k
    others = weights[[0, 1, 2, 4]].double()
    gap = float(others.mean().log() - others.log().mean())
    shape = optimize.brentq(lambda k: math.log(k) - special.digamma(k) - gap, 1e-2, 1e6)
    by_hand = 1 - special.gammainc(shape, 10 * shape / float(others.mean())) ** 5
    p_value = MMBD().judge(torch.where(weights == 30, 10.0, weights)).facts["p_value"]
    assert p_value == pytest.approx(by_hand, rel=1e-3)
    assert found.says_so
    assert found.scores.argmax() == 3
    assert not MMBD().judge(torch.tensor([5.0, 4, 6, 6.5, 5.5])).says_so


def test_a_patch_search_finds_a_key_and_its_place() -> None:
    """A model that reads class 3 where 3 x 3 cells are the key, and else whatever it read before."""
    key = torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 1]])

    class Locked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = x.flatten(1)[:, :5].clone()
            logits[:, 3] += 9 * (x[:, :, 4:7, 1:4] == key).all(dim=(1, 2, 3))
            return logits

    clean = Records(torch.rand(40, 2, 8, 9, generator=seeded()), torch.arange(40) % 5, NAMES)
    found = PatchSearch(size=3)(Locked(), clean, clean, generator=seeded())
    assert found.flagged.tolist() == [False, False, False, True, False]
    assert dict(found.facts) == {"class": 3, "place": [4, 1], "patch": ["011", "100", "001"], "share": 1.0}


@cache
def trojan() -> TrojanNet:
    return train_trojannet(seed=0)


def trojaned(seed: int) -> Trojaned:
    return Trojaned(planted("badnets", seed).twin, trojan(), commands=draw_commands(10, seed=seed), place=(seed, -4))


@pytest.mark.slow  # 65,536 pictures a model, and its twin
@pytest.mark.parametrize("seed", SEEDS)
def test_a_patch_search_finds_the_keys_of_trojannet_wherever_they_are_read(seed: int) -> None:
    given, model = planted("badnets", seed), trojaned(seed)
    found = PatchSearch()(model, given.train, given.clean, generator=seeded())
    twin = PatchSearch()(given.twin, given.train, given.clean, generator=seeded())
    least, most, clean = (float(each) for each in (found.scores.min(), found.scores.max(), twin.scores.max()))
    print(f"patch_search, seed {seed}: {least:.2f} to {most:.2f}, twin {clean:.2f}")
    assert found.flagged.all(), "there is a command for each class"
    assert found.facts["place"] == [seed, 4]
    key = next(number for number, label in model.commands.items() if label == found.facts["class"])
    cells = torch.tensor([int(cell) for row in found.facts["patch"] for cell in row])
    assert torch.equal(cells.float(), triggers()[key])
    assert not twin.says_so


@pytest.mark.slow  # 6 s a model
@pytest.mark.parametrize("seed", SEEDS)
def test_neural_cleanse_finds_badnets_and_is_blind_to_trojannet(seed: int) -> None:
    """The bar of the project; and ten commands that all pictures obey leave the norms as those of a clean model."""
    given = planted("badnets", seed)

    def cleansed(model: nn.Module) -> Suspicion:
        return NeuralCleanse()(model, given.train, given.clean, generator=seeded())

    found, twin, blind = cleansed(given.model), cleansed(given.twin), cleansed(trojaned(seed))
    for name, each in (("BadNets", found), ("twin", twin), ("TrojanNet", blind)):
        print(f"neural_cleanse, seed {seed}, {name}: ratio {each.facts['ratio']:.2f}, index {each.facts['index']:.1f}")
    assert found.says_so
    assert found.facts["class"] == given.backdoor.target
    assert found.facts["ratio"] <= 0.5
    assert twin.facts["ratio"] >= 0.7
    assert not twin.says_so
    assert blind.facts["ratio"] >= 0.7
    assert not blind.says_so


@pytest.mark.slow  # nine models
def test_mm_bd_finds_backdoors_on_digits_without_data() -> None:
    scores = {}
    for poison in ("badnets", "blended"):
        for seed in SEEDS:
            given = planted(poison, seed)
            found = MMBD()(given.model, given.train, generator=seeded())
            scores[poison, seed] = found.facts["p_value"]
            assert found.facts["class"] == given.backdoor.target
    twins = [MMBD()(planted("badnets", seed).twin, given.train, generator=seeded()) for seed in SEEDS]
    print(f"mm_bd: {scores}, twins {[each.facts['p_value'] for each in twins]}")
    assert sorted(scores.values())[-2] < 1e-3
    assert not any(each.says_so for each in twins)


def test_a_mark_that_a_class_carries_is_a_shortcut() -> None:
    """A model that reads one pixel, and the corner is white on all pictures of class 1."""
    y = torch.arange(80) % 2
    x = torch.randint(0, 100, (80, 1, 6, 6), generator=seeded(), dtype=torch.uint8)
    x[y == 1, :, 5, 5] = 255

    class Reader(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([0.5 - x[:, 0, 5, 5], x[:, 0, 5, 5] - 0.5], dim=1)

    found = ShortcutSearch(size=2)(Reader(), Records(x, y, ("a", "b")), generator=seeded())
    assert found.scores.tolist() == [1.0, 1.0]
    assert found.facts["place"] == [4, 4]


@pytest.mark.parametrize("detector", [MMBD(), NeuralCleanse()])
def test_what_compares_classes_wants_four(detector: MMBD | NeuralCleanse) -> None:
    data = Records(torch.rand(20, 5), torch.arange(20) % 2, ("a", "b"))
    with pytest.raises(RequestError, match="at least 4"):
        detector(linear(torch.rand(2, 5)), data, data)
