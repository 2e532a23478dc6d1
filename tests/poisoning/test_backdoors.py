"""One table of backdoors by data, and what every one of them has to keep to; then an oracle for each."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from robustml.attacks import PGD
from robustml.data import Records
from robustml.data.splits import Split
from robustml.errors import RequestError
from robustml.poisoning import (
    SIG,
    Backdoor,
    BadNets,
    Blended,
    FourCorners,
    GradientMatching,
    InputAware,
    LabelConsistent,
    Shortcut,
    SinglePixel,
    Square,
    WaNet,
    WholePicture,
    compare,
)
from robustml.poisoning.choose import seeded
from robustml.threats import LpBall

NAMES = ("ant", "bee", "cat", "dog")
COUNT, TARGET = 120, 2


def pictures(count: int = COUNT, channels: int = 3, side: int = 8, seed: int = 0) -> Records:
    """Noise, a quarter of it of each class; no pixel is at the edge of the range, so that every change shows."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(60, 196, (count, channels, side, side), generator=generator, dtype=torch.uint8)
    return Records(x, torch.arange(count) % len(NAMES), NAMES)


@dataclass(frozen=True)
class Given:
    """A source of pictures of the test's own."""

    count: int = COUNT

    def load(self, split: Split) -> Records:
        return pictures(self.count, seed=0 if split == "train" else 1)


def network(classes: int = 4) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        # batch norm and dropout would show a surrogate that is left in another mode or moved
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(384, classes),
        )


SURROGATE = network().train()
ATTACK = PGD(LpBall("inf", 0.1), steps=2)
RATE = 0.1

TABLE: dict[str, Backdoor] = {
    "badnets": BadNets(Square(2), rate=RATE, target=TARGET),
    "badnets-next": BadNets(Square(2), rate=RATE, target="next"),
    "blended": Blended(rate=RATE, target=TARGET),
    "blended-square": Blended(Square(4), alpha=0.5, rate=RATE, target="cat"),
    "sig": SIG(rate=RATE, target=TARGET, frequency=3),
    "wanet": WaNet(rate=RATE, noise_rate=0.2, target=TARGET),
    "single_pixel": SinglePixel(target="cat", victim="ant", pixel=(1, 2)),
    "label_consistent": LabelConsistent(SURROGATE, ATTACK, rate=RATE, target=TARGET, batch_size=5),
    "input_aware": InputAware(
        SURROGATE, Given(), RATE, 0.2, TARGET, density=0.2, width=4, mask_steps=3, steps=3, batch_size=16
    ),
    "gradient_matching": GradientMatching(SURROGATE, Given(), (0, 5), "cat", rate=RATE, steps=3, restarts=2),
    "shortcut": Shortcut(Square(2), correlation=0.9, target=TARGET),
}
# How many rows differ afterwards: of 120, 30 of each class.
CHANGED = dict.fromkeys(TABLE, 12) | {
    "wanet": 12 + 24,
    "input_aware": 12 + 24,
    "single_pixel": 30,
    "shortcut": 27 + 9,
}
CLEAN_LABEL = ["sig", "single_pixel", "label_consistent", "gradient_matching", "shortcut"]
RATED = [name for name in TABLE if name not in ("single_pixel", "shortcut")]
STAMPING = ["badnets", "blended-square", "label_consistent", "shortcut"]
EACH = pytest.mark.parametrize("name", TABLE)


@EACH
def test_exactly_as_many_rows_differ_as_was_asked_for(name: str) -> None:
    clean = pictures()
    poisoned = TABLE[name](clean, seed=0).data
    differs = (poisoned.x != clean.x).flatten(1).any(dim=1) | (poisoned.y != clean.y)
    assert int(differs.sum()) == CHANGED[name]
    assert poisoned.x.dtype == torch.uint8
    relabelled = poisoned.y != clean.y
    if name in CLEAN_LABEL:
        assert not relabelled.any()
    else:
        assert int(relabelled.sum()) == 12
        wanted = (clean.y + 1) % 4 if name.endswith("next") else torch.full_like(clean.y, TARGET)
        assert torch.equal(poisoned.y[relabelled], wanted[relabelled])
    if name in CLEAN_LABEL and name != "shortcut":
        assert (clean.y[differs] == TARGET).all()


@EACH
def test_the_seed_decides_and_nothing_else(name: str) -> None:
    clean = pictures()
    before = clean.fingerprint()
    state = torch.random.get_rng_state()
    first, again, other = (TABLE[name](clean, seed=seed).data.fingerprint() for seed in (0, 0, 1))
    assert first == again
    assert (first == other) == (name == "single_pixel")  # which draws nothing
    assert clean.fingerprint() == before
    assert torch.equal(torch.random.get_rng_state(), state)


@EACH
def test_the_number_of_threads_changes_no_byte(name: str) -> None:
    clean, found = pictures(), torch.get_num_threads()
    fingerprints = set()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            # a copy, for the input-aware one keeps its generator
            poison = copy.copy(TABLE[name])
            poison.__dict__.pop("_trained", None)
            shown = poison.present(Given().load("test"))
            fingerprints.add((poison(clean, seed=0).data.fingerprint(), shown.x.numpy().tobytes()))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(found)
    assert len(fingerprints) == 1


@EACH
def test_the_manifest_gives_the_clean_set_back(name: str) -> None:
    clean = pictures()
    poisoned = TABLE[name](clean, seed=0)
    manifest = compare(clean, poisoned, name)
    assert manifest.count == CHANGED[name]
    assert manifest.restore(poisoned.data).fingerprint() == clean.fingerprint()


@EACH
def test_what_is_shown_is_never_of_the_target_class(name: str) -> None:
    test = Given().load("test")
    shown = TABLE[name].present(test)
    assert (shown.y != shown.wanted).all()
    assert shown.x.dtype == test.x.dtype
    wanted = (shown.y + 1) % 4 if name.endswith("next") else torch.full_like(shown.y, TARGET)
    assert torch.equal(shown.wanted, wanted)
    rows = {
        "badnets-next": torch.arange(COUNT),
        "single_pixel": (test.y == 0).nonzero().squeeze(1),
        "gradient_matching": torch.tensor([0, 5]),
    }.get(name, (test.y != TARGET).nonzero().squeeze(1))
    assert torch.equal(shown.y, test.y[rows])
    changed = (shown.x != test.x[rows]).flatten(1).any(dim=1)
    assert (~changed if name == "gradient_matching" else changed).all()


@EACH
def test_float_pictures_stay_floats_in_range(name: str) -> None:
    clean = pictures()
    floats = Records(clean.x.float() / 255, clean.y, NAMES)
    poisoned = TABLE[name](floats, seed=0).data
    assert poisoned.x.dtype == torch.float32
    assert poisoned.x.min() >= 0
    assert poisoned.x.max() <= 1
    assert int((poisoned.x != floats.x).flatten(1).any(dim=1).sum()) == CHANGED[name]


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ("gradient_matching", "input_aware")])
def test_a_picture_is_shown_alike_alone_and_among_others(name: str) -> None:
    test = Given().load("test")
    together = TABLE[name].present(test)
    alone = [TABLE[name].present(test.take(torch.tensor([row]))).x for row in range(COUNT)]
    assert torch.equal(torch.cat(alone), together.x)


@pytest.mark.parametrize("name", ["label_consistent", "input_aware", "gradient_matching"])
def test_the_surrogate_is_handed_back_as_found(name: str) -> None:
    surrogate = network().train()
    surrogate[1].eval()
    surrogate[0].weight.requires_grad_(False)
    before = copy.deepcopy(surrogate.state_dict())
    replace(TABLE[name], surrogate=surrogate)(pictures(), seed=0)
    assert [module.training for module in surrogate] == [True, False, True, True, True, True]
    assert [parameter.requires_grad for parameter in surrogate.parameters()] == [False] + [True] * 5
    assert all(parameter.grad is None for parameter in surrogate.parameters())
    assert all(torch.equal(value, before[key]) for key, value in surrogate.state_dict().items())


@pytest.mark.parametrize("name", [name for name in TABLE if name != "badnets-next"])
def test_a_class_that_is_not_there(name: str) -> None:
    wrong = replace(TABLE[name], target="eel")
    with pytest.raises(RequestError, match=r"there is no class 'eel'"):
        wrong(pictures(), seed=0)
    with pytest.raises(RequestError, match="there is no class 7"):
        replace(TABLE[name], target=7).present(pictures())


@pytest.mark.parametrize("name", RATED)
@pytest.mark.parametrize("rate", [-0.1, 1.1, math.nan, "half", True])
def test_a_rate_that_is_none(name: str, rate: object) -> None:
    with pytest.raises(RequestError, match=r"poison.rate is the share of the training set .* in \[0, 1\]"):
        replace(TABLE[name], rate=rate)


@pytest.mark.parametrize("name", RATED)
def test_rate_zero_changes_nothing(name: str) -> None:
    clean = pictures()
    poison = replace(TABLE[name], rate=0.0)
    for other in ("noise_rate", "cross_rate"):
        poison = replace(poison, **{other: 0.0}) if hasattr(poison, other) else poison
    assert poison(clean, seed=0).data.fingerprint() == clean.fingerprint()


@pytest.mark.parametrize("name", ["sig", "label_consistent", "gradient_matching"])
def test_more_clean_label_rows_than_the_class_has(name: str) -> None:
    with pytest.raises(RequestError, match=r"36 rows of class (2|cat) are to be changed, but there are only 30"):
        replace(TABLE[name], rate=0.3)(pictures(), seed=0)


@pytest.mark.parametrize("name", STAMPING)
def test_a_trigger_larger_than_the_picture(name: str) -> None:
    with pytest.raises(RequestError, match="does not fit into 8 x 8"):
        replace(TABLE[name], trigger=Square(9))(pictures(), seed=0)


# Gradient matching needs no pictures, only a surrogate that takes the inputs.
@pytest.mark.parametrize("name", [name for name in TABLE if name != "gradient_matching"])
def test_what_holds_no_pictures(name: str) -> None:
    vectors = Records(torch.rand(COUNT, 5), torch.arange(COUNT) % 4, NAMES)
    with pytest.raises(RequestError, match=r"pictures|images"):
        TABLE[name](vectors, seed=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blended(alpha=0), "poison.alpha"),
        (lambda: Blended(WholePicture(file="nowhere.png")), "nowhere.png"),
        (lambda: SIG(strength=0), "poison.strength"),
        (lambda: SIG(shown_strength=2), "poison.shown_strength"),
        (lambda: SIG(frequency=0), "poison.frequency"),
        (lambda: WaNet(size=1), "size >= 2"),
        (lambda: WaNet(noise_rate=2), "poison.noise_rate"),
        (lambda: WaNet(rate=0.5, noise_rate=0.6)(pictures(), seed=0), "72 rows beside the relabelled"),
        (lambda: SinglePixel(0, pixel=(1, -1)), "poison.pixel"),
        (lambda: SinglePixel(0, value=255), "poison.value"),
        (lambda: SinglePixel(0, pixel=(1, 8))(pictures(), seed=0), r"no channel 2 at pixel \[1, 8\]"),
        (lambda: SinglePixel(0)(pictures(channels=1), seed=0), "no channel 2"),
        (lambda: SinglePixel(0, "ant", pixel=(1, 2)).present(pictures()), "both 'ant'"),
        (lambda: FourCorners(rows=((0, 1), (1,))), "rows of one length"),
        (lambda: FourCorners(rows=((0, 0.5),)), "0, 1 and null"),
        (lambda: FourCorners(amplitude=0), "trigger.amplitude"),
        (lambda: FourCorners()(torch.rand(1, 3, 5, 8)), "do not fit"),
        (lambda: Shortcut(Square(), correlation=1.5), "poison.correlation"),
        (lambda: replace(TABLE["gradient_matching"], rows=()), "poison.rows"),
        (lambda: replace(TABLE["gradient_matching"], eps=0), "poison.eps"),
        (lambda: replace(TABLE["gradient_matching"], eps=0.003)(pictures(), seed=0), "less than one byte"),
        (lambda: replace(TABLE["gradient_matching"], rows=(0, 2))(pictures(), seed=0), r"poison.rows \[2\] are of"),
        (lambda: replace(TABLE["gradient_matching"], rows=(120,))(pictures(), seed=0), "row 120 of a test part of 120"),
        (lambda: replace(TABLE["input_aware"], batch_size=2), "poison.batch_size"),
        (lambda: replace(TABLE["input_aware"], steps=0), "poison.steps"),
        (lambda: replace(TABLE["label_consistent"], batch_size=0), "poison.batch_size"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RequestError, match=message) as refused:
        make()
    assert "\n" not in str(refused.value)


# Oracles: what each method does to a picture, worked out another way.


def bytes_of(x: np.ndarray) -> Tensor:
    return torch.from_numpy(np.clip(np.rint(x), 0, 255).astype(np.uint8))


def test_blended_is_the_weighted_mean(tmp_path: Path) -> None:
    key = np.random.RandomState(0).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    Image.fromarray(key).save(tmp_path / "key.png")
    test = pictures()
    shown = Blended(WholePicture(str(tmp_path / "key.png")), alpha=0.3, target=TARGET).present(test).x
    x = test.x[test.y != TARGET].numpy().astype(float)
    assert (shown.int() - bytes_of(0.7 * x + 0.3 * key.transpose(2, 0, 1)).int()).abs().max() <= 1
    grey = WholePicture(str(tmp_path / "key.png"))(torch.rand(1, 1, 8, 8))[0, 0]
    np.testing.assert_allclose(grey, key.mean(axis=2) / 255, atol=1e-6)


def test_the_noise_key_is_uniform_and_its_own_seeds() -> None:
    key = WholePicture()(torch.zeros(2, 3, 64, 64))
    assert torch.equal(key[0], key[1])
    histogram = torch.histc(key[0], 10, 0, 1) / key[0].numel()
    assert (histogram - 0.1).abs().max() < 0.01
    assert not torch.equal(key, WholePicture(seed=1)(torch.zeros(2, 3, 64, 64)))


def test_sig_adds_the_papers_sinusoid() -> None:
    test = pictures(side=12)
    shown = SIG(strength=0.05, shown_strength=0.1, frequency=3, target=TARGET).present(test).x
    x = test.x[test.y != TARGET].numpy().astype(float)
    stripes = [255 * 0.1 * math.sin(2 * math.pi * column * 3 / 12) for column in range(12)]
    assert (shown.int() - bytes_of(x + np.array(stripes)).int()).abs().max() <= 1
    planted = SIG(strength=0.05, shown_strength=0.1, frequency=3, rate=0.25, target=TARGET)(test, seed=0).data.x
    change = (planted.int() - test.x.int())[test.y == TARGET]
    assert int(change.abs().max()) == round(255 * 0.05)


def test_wanets_shifts_are_smooth_and_of_the_asked_size() -> None:
    shifts = WaNet(strength=0.5).shifts(32, 32)
    assert 0.3 < float(shifts.abs().mean()) < 0.7
    assert shifts.abs().max() < 2.5  # little more than a pixel, anywhere
    assert max(float(shifts.diff(dim=0).abs().max()), float(shifts.diff(dim=1).abs().max())) < 0.4
    twice = WaNet(strength=1.0).shifts(32, 32)
    torch.testing.assert_close(twice, 2 * shifts)
    # the corners are the field's own, normalised to a mean size of s
    field = torch.rand(1, 2, 4, 4, generator=seeded(0, "warp")) * 2 - 1
    torch.testing.assert_close(shifts[0, 0], 0.5 * (field / field.abs().mean())[0, :, 0, 0])


def test_wanet_samples_where_scipy_does() -> None:
    wanet = WaNet(strength=0.8, target=TARGET)
    x = torch.rand(1, 2, 9, 13, generator=torch.Generator().manual_seed(4))
    shifts = wanet.shifts(9, 13).numpy() / 2  # halves of a pixel
    rows, columns = np.meshgrid(np.arange(9), np.arange(13), indexing="ij")
    places = [(rows + shifts[..., 1]).clip(0, 8), (columns + shifts[..., 0]).clip(0, 12)]
    bent = wanet.bent(x)
    for channel in range(2):
        expected = map_coordinates(x[0, channel].numpy(), places, order=1)
        np.testing.assert_allclose(bent[0, channel].numpy(), expected, atol=1e-5)


def test_wanets_noise_rows_keep_their_labels_and_differ_from_the_warp_alone() -> None:
    clean, wanet = pictures(), TABLE["wanet"]
    poisoned = wanet(clean, seed=0).data
    changed = (poisoned.x != clean.x).flatten(1).any(dim=1)
    noisy = changed & (poisoned.y == clean.y)
    assert int(noisy.sum()) == 24
    bent = wanet.bent(clean.x / 255.0)
    off = (poisoned.x / 255.0 - bent).abs().amax(dim=(1, 2, 3))
    assert (off[noisy] > 0.02).all()
    assert (off[changed & ~noisy] <= 0.5 / 255 + 1e-6).all()


def test_single_pixel_touches_one_byte_of_every_row_of_the_class() -> None:
    clean = pictures()
    poisoned = TABLE["single_pixel"](clean, seed=0).data
    expected = clean.x.clone()
    expected[clean.y == TARGET, 2, 1, 2] = 0
    assert torch.equal(poisoned.x, expected)
    assert TABLE["single_pixel"].poisons_validation


def test_four_corners_mirror_each_other_and_keep_to_their_amplitude() -> None:
    x = torch.full((1, 1, 8, 8), 0.5)
    faint = FourCorners(amplitude=0.25)(x)
    change = (faint - x)[0, 0]
    assert torch.equal(change[5:, 5:], 0.25 * torch.tensor([[-1.0, -1, 1], [-1, 1, -1], [1, -1, 1]]))
    assert torch.equal(change, change.flip(0))
    assert torch.equal(change, change.flip(1))
    assert int((change != 0).sum()) == 36
    assert set(FourCorners()(x).unique().tolist()) == {0.0, 0.5, 1.0}


def test_label_consistent_is_the_attack_and_then_the_trigger() -> None:
    clean = pictures()
    attack = PGD(LpBall("inf", 0.1), steps=3, random_start=False)
    poison = LabelConsistent(SURROGATE, attack, Square(2), None, rate=0.25, target=TARGET, batch_size=7)
    rows = (clean.y == TARGET).nonzero().squeeze(1)
    surrogate = copy.deepcopy(SURROGATE).eval()
    x_adv = attack(surrogate, clean.x[rows] / 255.0, clean.y[rows])
    change = x_adv.double() * 255 - clean.x[rows]
    wanted = clean.x[rows] + (change + 1e-4 * change.sign()).trunc().int()  # 25/255, the bytes within an eps of 0.1
    wanted[:, :, 6:, 6:] = 255
    off = poison(clean, seed=0).data.x[rows].int() - wanted
    assert off.abs().max() <= 1
    assert (off != 0).float().mean() < 0.01


def test_input_aware_triggers_differ_between_pictures_and_cover_little() -> None:
    learnt = InputAware(SURROGATE, Given(), RATE, 0.2, TARGET, density=0.1, width=8, mask_steps=60, steps=60)
    x = pictures(40, seed=5).x / 255.0
    triggers = learnt._trained
    mask = triggers.mask(x)
    assert mask.mean() < 0.2
    # the diversity loss at work: masks of different pictures are further apart than those before training
    apart = (mask - mask.roll(1, 0)).abs().mean()
    assert apart > 0.02
    crossed = triggers.on(x, x.roll(1, 0))
    torch.testing.assert_close(crossed, x * (1 - mask.roll(1, 0)) + triggers.pattern(x).roll(1, 0) * mask.roll(1, 0))


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy over all weights, by autograd's own way."""
    model = copy.deepcopy(model).eval().requires_grad_()
    nn.functional.cross_entropy(model(x), y).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_gradient_matching_turns_the_training_gradient_towards_the_aim_within_eps() -> None:
    clean, eps = pictures(), 10.4 / 255
    poison = replace(TABLE["gradient_matching"], rate=0.1, steps=60, eps=eps, restarts=1)
    poisoned = poison(clean, seed=0).data
    change = poisoned.x.int() - clean.x.int()
    assert int(change.abs().max()) == 10
    rows = change.flatten(1).any(dim=1)
    shown = poison.present(Given().load("test"))
    aim = gradient(SURROGATE, shown.x / 255.0, shown.wanted)
    cosines = [
        float(nn.functional.cosine_similarity(gradient(SURROGATE, data.x[rows] / 255.0, data.y[rows]), aim, dim=0))
        for data in (clean, poisoned)
    ]
    assert 1 - cosines[1] < 0.5 * (1 - cosines[0])


def test_a_shortcut_without_correlation_is_on_half_of_each_class() -> None:
    clean = pictures(400)
    for correlation, own, others in ((0.5, 50, 150), (1.0, 100, 0), (0.0, 0, 300)):
        poisoned = Shortcut(Square(2), correlation, TARGET)(clean, seed=0).data
        marked = (poisoned.x != clean.x).flatten(1).any(dim=1)
        assert int(marked[clean.y == TARGET].sum()) == own
        assert int(marked[clean.y != TARGET].sum()) == others
        assert torch.equal(poisoned.x[marked], (Square(2)(clean.x[marked] / 255.0) * 255).round().to(torch.uint8))
