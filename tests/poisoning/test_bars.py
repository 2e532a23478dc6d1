"""What manipulated data and slow poisoning must show: the bars of the threat catalogue, medians over three seeds."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from corpora import mail_round
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import Generator, Tensor, nn

from robustml.data import Digits, Records
from robustml.errors import RequestError
from robustml.poisoning import Cusum, Flip, Mailbox, PreviousRound, last_trusted, simulate_feedback
from robustml.poisoning.feedback import FeedbackRound

SEEDS = (0, 1, 2)
RATES = (0.1, 0.3, 0.5)


@pytest.fixture(scope="module")
def digits() -> tuple[Records, Records]:
    return Digits().load("train"), Digits().load("test")


def trained(train: Records, test: Records, labels: Tensor, used: Tensor) -> Tensor:
    """Test accuracy (M,) of M nets that learn the same digits with other labels (M, N), of the rows in `used` (M, N).

    Side by side, for a net as small as these is mostly overhead; by hand, for the first torch optimizer of a process
    costs seconds of imports. Long enough that they learn false labels by heart.
    """
    generator = Generator().manual_seed(0)
    nets, width = len(labels), 128
    layers = [
        torch.randn(nets, 64, width, generator=generator) * (2 / 64) ** 0.5,
        torch.zeros(nets, 1, width),
        torch.randn(nets, width, 10, generator=generator) * (1 / width) ** 0.5,
        torch.zeros(nets, 1, 10),
    ]
    momentum = [torch.zeros_like(layer) for layer in layers]
    for layer in layers:
        layer.requires_grad_()

    def logits(x: Tensor) -> Tensor:
        first, bias, last, last_bias = layers
        return (x.flatten(1).float() / 255 @ first + bias).relu() @ last + last_bias

    for _ in range(50):
        for batch in torch.split(torch.randperm(len(train), generator=generator), 128):
            losses = nn.functional.cross_entropy(
                logits(train.x[batch]).flatten(0, 1), labels[:, batch].flatten(), reduction="none"
            )
            weight = used[:, batch] / used[:, batch].sum(dim=1, keepdim=True)
            gradients = torch.autograd.grad((losses.view(nets, -1) * weight).sum(), layers)
            for layer, speed, gradient in zip(layers, momentum, gradients, strict=True):
                speed.mul_(0.9).add_(gradient)
                layer.data -= 0.1 * speed
    with torch.no_grad():
        return (logits(test.x).argmax(dim=2) == test.y).float().mean(dim=1)


def suspicion(data: Records, seed: int) -> Tensor:
    """Rows (N,), the most suspicious first: those whose label is least likely to a model that has not seen them."""
    x, y = data.x.flatten(1).numpy() / 255, data.y.numpy()
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    likelihood = cross_val_predict(LogisticRegression(max_iter=200), x, y, cv=folds, method="predict_proba")
    return torch.from_numpy(np.argsort(likelihood[np.arange(len(y)), y]))


class Flipped(NamedTuple):
    """Of one seed: a set with flipped labels, what the ranking says, and how much of it is right."""

    y: Tensor
    ranking: Tensor
    precision: float


def flipped(train: Records, flip: Flip, seed: int) -> Flipped:
    data = flip.plan(train, seed=seed).apply(train)
    ranking = suspicion(data, seed)
    is_false = data.y != train.y
    return Flipped(data.y, ranking, float(is_false[ranking[: int(is_false.sum())]].float().mean()))


def test_flipped_labels_cost_accuracy_and_filtering_wins_it_back(digits: tuple[Records, Records]) -> None:
    train, test = digits
    everything = torch.ones(len(train))
    labels, used = [train.y], [everything]
    for seed in SEEDS:
        for rate in RATES:
            labels.append(Flip(rate).plan(train, seed=seed).apply(train).y)
            used.append(everything)
        found = flipped(train, Flip(0.3), seed)
        count = round(0.3 * len(train))
        for removed in (found.ranking, torch.randperm(len(train), generator=Generator().manual_seed(seed))):
            labels.append(found.y)
            used.append(everything.clone().index_fill_(0, removed[:count], 0.0))
    accuracy = trained(train, test, torch.stack(labels), torch.stack(used))
    clean, of_seed = float(accuracy[0]), accuracy[1:].view(len(SEEDS), -1)
    print(f"clean {clean:.3f}; 10/30/50 %, filtered, randomly thinned at 30 %: {of_seed.tolist()}")
    at_10, at_30, at_50, filtered, thinned = of_seed.median(dim=0).values.tolist()
    assert clean > 0.96
    assert clean > at_10 > at_30 > at_50
    assert clean - at_10 >= 0.01
    assert at_30 - at_50 >= 0.05
    assert filtered - at_30 >= 0.04
    assert filtered - thinned >= 0.04, "it is not that fewer rows do better"


def test_the_ranking_finds_flipped_labels_and_the_most_confusable_less_well(digits: tuple[Records, Records]) -> None:
    train, _ = digits
    random = [flipped(train, Flip(0.1), seed).precision for seed in SEEDS]
    confusable = [flipped(train, Flip(0.1, "most_confusable"), seed).precision for seed in SEEDS]
    print(f"precision@k at 10 %: random flips {random}, most confusable {confusable}")
    assert np.median(random) >= 0.85, "chance is 0.10"
    assert np.median(random) - np.median(confusable) >= 0.05


def mailbox(number: int, count: int, seed: int) -> Mailbox:
    mails = mail_round(number, count, seed)
    return Mailbox([mail.text for mail in mails], [mail.label == "spam" for mail in mails])


ROUNDS = 12


# An attacker who turns more and more spam into "not spam", from the first round on or from the sixth.
CAMPAIGN = tuple(0.95 * number / ROUNDS for number in range(1, ROUNDS + 1))
LATE = (0.0,) * 5 + tuple(0.95 * number / 7 for number in range(1, 8))


@cache
def campaign(seed: int, shares: tuple[float, ...], *, roll_back: bool = False) -> list[FeedbackRound]:
    feedback = [mailbox(number, 200, seed) for number in range(1, ROUNDS + 1)]
    test = mailbox(ROUNDS + 1, 1000, seed)
    return simulate_feedback(mailbox(0, 200, seed), feedback, test, shares=shares, seed=seed, roll_back=roll_back)


def steps(rounds: list[FeedbackRound]) -> list[float]:
    """What every round lost of the spam recall of the one before."""
    return [before.spam_recall - after.spam_recall for before, after in pairwise(rounds)]


def alarms(rounds: list[FeedbackRound], kind: str) -> list[int]:
    return [each.number for each in rounds if getattr(each, f"{kind}_alarm")]


@pytest.mark.parametrize("seed", SEEDS)
def test_feedback_wears_the_filter_down_below_the_eye_of_the_release_check(seed: int) -> None:
    rounds = campaign(seed, CAMPAIGN)
    first, last = rounds[0], rounds[-1]
    print(
        f"seed {seed}: spam recall {[round(each.spam_recall, 3) for each in rounds]}, ham {first.ham_recall:.3f} to "
        f"{last.ham_recall:.3f}, worst step {max(steps(rounds)):.3f}, alarms {alarms(rounds, 'baseline')[:1]}"
    )
    assert [each.false_reports for each in rounds] == [0, *(round(0.95 * t / 12 * 100) for t in range(1, 13))]
    assert [each.trained_on for each in rounds] == [200 * (t + 1) for t in range(13)]
    assert first.spam_recall - last.spam_recall >= 0.4
    assert max(steps(rounds)) <= 0.1
    assert last.ham_recall > first.ham_recall, "nobody who looks at lost mail will see a thing"
    assert alarms(rounds, "previous_round") == []
    found = alarms(rounds, "baseline")
    assert found
    assert found[0] <= 7, "long before the end"
    assert found == list(range(found[0], ROUNDS + 1)), "and it goes on"


@pytest.mark.parametrize("seed", SEEDS)
def test_honest_feedback_does_no_harm_and_raises_no_alarm(seed: int) -> None:
    rounds = campaign(seed, (0.0,) * ROUNDS)
    print(f"seed {seed}: control, spam recall {[round(each.spam_recall, 3) for each in rounds]}")
    assert rounds[0].spam_recall - rounds[-1].spam_recall <= 0.02
    assert max(steps(rounds)) <= 0.02
    assert not alarms(rounds, "previous_round")
    assert not alarms(rounds, "baseline")
    assert not any(each.false_reports for each in rounds)


@pytest.mark.parametrize(
    ("seed", "shares"), [(0, CAMPAIGN), (1, CAMPAIGN), (2, CAMPAIGN), (0, LATE)], ids=["0", "1", "2", "0-late"]
)
def test_rolling_back_restores_the_last_trusted_filter(seed: int, shares: tuple[float, ...]) -> None:
    rounds = campaign(seed, shares, roll_back=True)
    alarm, *others = alarms(rounds, "baseline")
    trusted = rounds[rounds[-1].serves]
    print(
        f"seed {seed}: alarm in round {alarm}, back to {trusted.number}: {rounds[alarm].spam_recall:.3f} to "
        f"{rounds[-1].spam_recall:.3f}, baseline {rounds[0].spam_recall:.3f}"
    )
    assert others == [], "it is gone with the filter that raised it"
    assert trusted.number < alarm
    assert trusted.number >= (5 if shares is LATE else 0), "what was learnt from honest feedback is kept"
    assert [each.serves for each in rounds] == [*range(alarm + 1), *[trusted.number] * (ROUNDS - alarm)]
    assert rounds[0].spam_recall - rounds[-1].spam_recall <= 0.02 + 1e-9, "the slack of the monitor"
    assert rounds[-1].trained_on == 200 * (trusted.number + 1)
    # Up to the alarm the filter was the one that nobody rolls back; from then on it is that of the trusted round.
    left_alone = campaign(seed, shares)
    assert [each.spam_recall for each in rounds[: alarm + 1]] == [each.spam_recall for each in left_alone[: alarm + 1]]
    texts = mailbox(ROUNDS + 1, 1000, seed).texts
    restored, then = rounds[-1].model, left_alone[trusted.number].model
    assert np.array_equal(restored.predict(texts), then.predict(texts))
    assert rounds[-1].spam_recall - left_alone[-1].spam_recall >= (0.15 if shares is LATE else 0.4)
    assert last_trusted(left_alone, Cusum()).number == trusted.number
    assert [each.false_reports for each in rounds] == [each.false_reports for each in left_alone]


def test_the_attacker_hides_spam_and_touches_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    class Recorder(LogisticRegression):
        def fit(self, x: object, y: list[bool]) -> Recorder:
            seen.append(np.array(y))
            super().fit(x, y)
            return self

    monkeypatch.setattr("sklearn.linear_model.LogisticRegression", Recorder)
    boxes = [mailbox(number, 40, 0) for number in range(4)]
    truth = np.concatenate([box.spam for box in boxes])
    simulate_feedback(boxes[0], boxes[1:], mailbox(9, 40, 0), shares=[0.15, 0.35, 0.5], seed=1)
    first = [labels.copy() for labels in seen]
    assert [len(labels) for labels in first] == [40, 80, 120, 160]
    false = truth & ~first[-1]
    assert not (first[-1] & ~truth).any()
    assert [int(part.sum()) for part in np.split(false, 4)] == [0, 3, 7, 10]
    assert all(np.array_equal(labels, first[-1][: len(labels)]) for labels in first), "what was reported stays so"
    seen.clear()
    simulate_feedback(boxes[0], boxes[1:], mailbox(9, 40, 0), shares=[0.15, 0.35, 0.5], seed=1)
    assert all(np.array_equal(*pair) for pair in zip(first, seen, strict=True))
    seen.clear()
    simulate_feedback(boxes[0], boxes[1:], mailbox(9, 40, 0), shares=[0.15, 0.35, 0.5], seed=2)
    assert not np.array_equal(first[-1], seen[-1])


def test_the_monitors_by_hand() -> None:
    figures = [0.9, 0.88, 0.85, 0.9, 0.8, 0.79]
    assert Cusum(slack=0.02).sums(figures) == pytest.approx([0, 0, 0.03, 0.01, 0.09, 0.18])
    assert [Cusum(slack=0.02, limit=0.1)(figures[:length]) for length in range(1, 7)] == [False] * 5 + [True]
    assert Cusum(slack=0.02, limit=0.025)(figures[:3])
    assert not Cusum(slack=0.02)([0.5, 0.9, 0.9])
    drops = [0.75, 0.5, 0.25, 0.5, 0.125]
    assert [PreviousRound(drop=0.25)(drops[:length]) for length in range(1, 6)] == [False] * 4 + [True]


def test_the_last_trusted_round_is_the_one_before_the_losses_began() -> None:
    pattern = simulate_feedback(mailbox(0, 20, 0), [], mailbox(1, 20, 0), shares=[], seed=0)[0]

    def rounds(spam: list[float], ham: list[float]) -> list[FeedbackRound]:
        pairs = enumerate(zip(spam, ham, strict=True))
        return [
            pattern.model_copy(update={"number": number, "spam_recall": one, "ham_recall": two})
            for number, (one, two) in pairs
        ]

    flat = [0.9] * 6
    sinking = [0.9, 0.9, 0.89, 0.8, 0.7, 0.6]
    assert last_trusted(rounds(sinking, flat), Cusum()).number == 2
    assert last_trusted(rounds(flat, sinking), Cusum()).number == 2
    assert last_trusted(rounds(flat, flat), Cusum()).number == 5
    assert last_trusted(rounds([0.9, 0.5, 0.5, 0.9, 0.9, 0.9], flat), Cusum()).number == 0


def test_requests_that_make_no_sense() -> None:
    box, test = mailbox(0, 20, 0), mailbox(1, 20, 0)
    for words, message in (
        ({"shares": [1.2]}, "expected 1 shares in \\[0, 1\\], one for each round of feedback, got \\[1.2\\]"),
        ({"shares": [0.1, 0.2]}, "expected 1 shares"),
        ({"trusted": Mailbox(box.texts[::2], box.spam[::2])}, "trusted mail must hold spam and other mail"),
        ({"test": Mailbox(box.texts[1::2], box.spam[1::2])}, "test mail must hold spam and other mail"),
        ({"feedback": [Mailbox(box.texts, box.spam[1:])]}, "got 20 texts and 19 labels"),
    ):
        with pytest.raises(RequestError, match=message):
            simulate_feedback(**({"trusted": box, "feedback": [box], "test": test, "shares": [0.5], "seed": 0} | words))  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="drop in \\(0, 1\\)"):
        PreviousRound(drop=0.0)
    with pytest.raises(RequestError, match="limit > 0"):
        Cusum(limit=0.0)
    with pytest.raises(RequestError, match="slack >= 0"):
        Cusum(slack=float("nan"))
