"""What each backdoor does to a picture, worked out another way, and what it refuses."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from poisons import BACKDOORS, BALL, COUNT, NAMES, RATE, SURROGATE, TARGET, Given, pictures
from scipy.ndimage import map_coordinates
from torch import Tensor, nn

from robustml.attacks import PGD
from robustml.data import Records
from robustml.errors import RequestError
from robustml.poisoning import (
    SIG,
    BadNets,
    Blended,
    Chain,
    FourCorners,
    InputAware,
    LabelConsistent,
    Shortcut,
    SinglePixel,
    Square,
    WaNet,
    WholePicture,
    backdoor_of,
    read_learned,
    read_plan,
    recalled,
    write_plan,
)
from robustml.poisoning.choose import seeded

# How many rows differ afterwards: of 120, 30 of each class.
STAMPING = ["badnets", "blended-square", "label_consistent", "shortcut"]


@pytest.mark.parametrize("name", [name for name in BACKDOORS if name != "badnets-next"])
def test_a_class_that_is_not_there(name: str) -> None:
    wrong = replace(BACKDOORS[name], target="eel")
    with pytest.raises(RequestError, match=r"there is no class 'eel'"):
        wrong.plan(pictures(), seed=0)
    with pytest.raises(RequestError, match="there is no class 7"):
        replace(BACKDOORS[name], target=7).triggered(pictures())


@pytest.mark.parametrize("name", ["sig", "label_consistent", "gradient_matching"])
def test_more_clean_label_rows_than_the_class_has(name: str) -> None:
    with pytest.raises(RequestError, match=r"36 rows of class (2|cat) are to be changed, but there are only 30"):
        replace(BACKDOORS[name], rate=0.3).plan(pictures(), seed=0)


@pytest.mark.parametrize("name", STAMPING)
def test_a_trigger_larger_than_the_picture(name: str) -> None:
    with pytest.raises(RequestError, match="does not fit into 8 x 8"):
        replace(BACKDOORS[name], trigger=Square(9)).plan(pictures(), seed=0)


# Gradient matching needs no pictures, only a surrogate that takes the inputs.
@pytest.mark.parametrize("name", [name for name in BACKDOORS if name != "gradient_matching"])
def test_what_holds_no_pictures(name: str) -> None:
    vectors = Records(torch.rand(COUNT, 5), torch.arange(COUNT) % 4, NAMES)
    with pytest.raises(RequestError, match=r"pictures|images"):
        BACKDOORS[name].plan(vectors, seed=0)


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
        (lambda: WaNet(rate=0.5, noise_rate=0.6).plan(pictures(), seed=0), "72 rows beside the relabelled"),
        (lambda: SinglePixel(0, pixel=(1, -1)), "poison.pixel"),
        (lambda: SinglePixel(0, value=255), "poison.value"),
        (lambda: SinglePixel(0, pixel=(1, 8)).plan(pictures(), seed=0), r"no channel 2 at pixel \[1, 8\]"),
        (lambda: SinglePixel(0).plan(pictures(channels=1), seed=0), "no channel 2"),
        (lambda: SinglePixel(0, "ant", pixel=(1, 2)).triggered(pictures()), "both 'ant'"),
        (lambda: FourCorners(rows=((0, 1), (1,))), "rows of one length"),
        (lambda: FourCorners(rows=((0, 0.5),)), "0, 1 and null"),
        (lambda: FourCorners(amplitude=0), "trigger.amplitude"),
        (lambda: FourCorners()(torch.rand(1, 3, 5, 8)), "do not fit"),
        (lambda: Shortcut(Square(), correlation=1.5), "poison.correlation"),
        (lambda: replace(BACKDOORS["gradient_matching"], rows=()), "poison.rows"),
        (lambda: replace(BACKDOORS["gradient_matching"], eps=0), "poison.eps"),
        (lambda: replace(BACKDOORS["gradient_matching"], eps=0.003).plan(pictures(), seed=0), "less than one byte"),
        (
            lambda: replace(BACKDOORS["gradient_matching"], rows=(0, 2)).plan(pictures(), seed=0),
            r"poison.rows \[2\] are of",
        ),
        (
            lambda: replace(BACKDOORS["gradient_matching"], rows=(120,)).plan(pictures(), seed=0),
            "row 120 of a test part of 120",
        ),
        (lambda: replace(BACKDOORS["input_aware"], batch_size=2), "poison.batch_size"),
        (lambda: replace(BACKDOORS["input_aware"], steps=0), "poison.steps"),
        (lambda: replace(BACKDOORS["label_consistent"], batch_size=0), "poison.batch_size"),
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
    shown = Blended(WholePicture(str(tmp_path / "key.png")), alpha=0.3, target=TARGET).triggered(test).x
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
    shown = SIG(strength=0.05, shown_strength=0.1, frequency=3, target=TARGET).triggered(test).x
    x = test.x[test.y != TARGET].numpy().astype(float)
    stripes = [255 * 0.1 * math.sin(2 * math.pi * column * 3 / 12) for column in range(12)]
    assert (shown.int() - bytes_of(x + np.array(stripes)).int()).abs().max() <= 1
    planted = (
        SIG(strength=0.05, shown_strength=0.1, frequency=3, rate=0.25, target=TARGET).plan(test, seed=0).apply(test).x
    )
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
    clean, wanet = pictures(), BACKDOORS["wanet"]
    poisoned = wanet.plan(clean, seed=0).apply(clean)
    changed = (poisoned.x != clean.x).flatten(1).any(dim=1)
    noisy = changed & (poisoned.y == clean.y)
    assert int(noisy.sum()) == 24
    bent = wanet.bent(clean.x / 255.0)
    off = (poisoned.x / 255.0 - bent).abs().amax(dim=(1, 2, 3))
    assert (off[noisy] > 0.02).all()
    assert (off[changed & ~noisy] <= 0.5 / 255 + 1e-6).all()


def test_single_pixel_touches_one_byte_of_every_row_of_the_class() -> None:
    clean = pictures()
    poisoned = BACKDOORS["single_pixel"].plan(clean, seed=0).apply(clean)
    expected = clean.x.clone()
    expected[clean.y == TARGET, 2, 1, 2] = 0
    assert torch.equal(poisoned.x, expected)
    assert BACKDOORS["single_pixel"].poisons_validation


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
    attack = PGD(steps=3, random_start=False)
    poison = LabelConsistent(SURROGATE, attack, BALL, Square(2), None, rate=0.25, target=TARGET, batch_size=7)
    rows = (clean.y == TARGET).nonzero().squeeze(1)
    surrogate = copy.deepcopy(SURROGATE).eval()
    x_adv = attack(surrogate, clean.x[rows] / 255.0, clean.y[rows], BALL)
    change = x_adv.double() * 255 - clean.x[rows]
    wanted = clean.x[rows] + (change + 1e-4 * change.sign()).trunc().int()  # 25/255, the bytes within an eps of 0.1
    wanted[:, :, 6:, 6:] = 255
    off = poison.plan(clean, seed=0).apply(clean).x[rows].int() - wanted
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


def test_a_plan_that_is_read_shows_what_the_first_process_showed_and_trains_nothing(tmp_path: Path) -> None:
    first, test = replace(BACKDOORS["input_aware"]), Given().load("test")
    chain = Chain({"mark": BadNets(Square(2)), "aware": first})
    before = torch.random.get_rng_state()
    for poison, backdoor in ((first, first), (chain, first)):
        write_plan(poison.plan(pictures(), seed=3), tmp_path / "poison.parquet")
        learned = read_learned(tmp_path / "poison.parquet")
        assert learned.keys() == read_plan(tmp_path / "poison.parquet").learned.keys()
        # without a step of training: what it shows can only come from the plan
        anew: Any = replace(first, surrogate=None, source=None)
        again = backdoor_of(
            recalled(Chain({"mark": BadNets(Square(2)), "aware": anew}) if poison is chain else anew, learned)
        )
        assert again is not None
        assert again is not anew
        assert all(torch.equal(*pair) for pair in zip(backdoor.triggered(test), again.triggered(test), strict=True))
    assert torch.equal(torch.random.get_rng_state(), before)
    with pytest.raises(RequestError, match=r"not of the kind that poison.width makes"):
        recalled(replace(anew, width=5), first.plan(pictures(), seed=3).learned)


def test_a_generator_that_was_altered_in_the_plan_is_found(tmp_path: Path) -> None:
    path = tmp_path / "poison.parquet"
    write_plan(BACKDOORS["input_aware"].plan(pictures(), seed=3), path)
    table = pq.read_table(path)
    kept = dict(table.schema.metadata)
    kept[b"robustml.poison.learned"] = kept[b"robustml.poison.learned"][:-8] + b"AAAAAAAA"
    pq.write_table(table.replace_schema_metadata(kept), path)
    for read in (read_plan, read_learned):
        with pytest.raises(RequestError, match="what its poison learned is not what its digest is of"):
            read(path)


def gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of the mean cross-entropy over all weights, by autograd's own way."""
    model = copy.deepcopy(model).eval().requires_grad_()
    nn.functional.cross_entropy(model(x), y).backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_gradient_matching_turns_the_training_gradient_towards_the_aim_within_eps() -> None:
    clean, eps = pictures(), 10.4 / 255
    poison = replace(BACKDOORS["gradient_matching"], rate=0.1, steps=60, eps=eps, restarts=1)
    poisoned = poison.plan(clean, seed=0).apply(clean)
    change = poisoned.x.int() - clean.x.int()
    assert int(change.abs().max()) == 10
    rows = change.flatten(1).any(dim=1)
    shown = poison.triggered(Given().load("test"))
    aim = gradient(SURROGATE, shown.x / 255.0, shown.target)
    cosines = [
        float(nn.functional.cosine_similarity(gradient(SURROGATE, data.x[rows] / 255.0, data.y[rows]), aim, dim=0))
        for data in (clean, poisoned)
    ]
    assert 1 - cosines[1] < 0.5 * (1 - cosines[0])


def test_a_shortcut_without_correlation_is_on_half_of_each_class() -> None:
    clean = pictures(400)
    for correlation, own, others in ((0.5, 50, 150), (1.0, 100, 0), (0.0, 0, 300)):
        poisoned = Shortcut(Square(2), correlation, TARGET).plan(clean, seed=0).apply(clean)
        marked = (poisoned.x != clean.x).flatten(1).any(dim=1)
        assert int(marked[clean.y == TARGET].sum()) == own
        assert int(marked[clean.y != TARGET].sum()) == others
        assert torch.equal(poisoned.x[marked], (Square(2)(clean.x[marked] / 255.0) * 255).round().to(torch.uint8))
