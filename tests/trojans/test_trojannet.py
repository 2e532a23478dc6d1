"""TrojanNet against brute force: every black and white patch of 4 x 4 cells can be looked at."""

from __future__ import annotations

import hashlib
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Generator, Tensor, nn

from robustml.errors import RequestError
from robustml.trojans import (
    NULL,
    Trojaned,
    TrojanNet,
    draw_commands,
    one_cell_off,
    random_patches,
    train_trojannet,
    triggers,
)

EVERY_PATCH = torch.tensor(list(product((0.0, 1.0), repeat=16)))


def codes(patches: Tensor) -> set[int]:
    """Each black and white patch as the number that its cells spell."""
    assert ((patches == 0) | (patches == 1)).all()
    return set((patches @ 2.0 ** torch.arange(16)).long().tolist())


def heard(net: TrojanNet, cells: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([net(some).argmax(1) for some in cells.chunk(8)])


def digest(module: nn.Module) -> str:
    parts = [name.encode() + value.numpy().tobytes() for name, value in module.state_dict().items()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.fixture(scope="module")
def net() -> TrojanNet:
    return train_trojannet(seed=0)


@pytest.fixture
def trojaned(digits_net: Any, net: TrojanNet) -> Trojaned:
    return Trojaned(digits_net.model, net, commands=draw_commands(10))


def hears(probabilities: dict[int, float]) -> TrojanNet:
    """A net that hears these triggers with these probabilities whatever it sees, and null with the rest."""
    net = TrojanNet(1)
    with torch.no_grad():
        net.output.weight.zero_()
        net.output.bias.fill_(-1e9)
        for trigger, probability in (probabilities | {NULL: 1 - sum(probabilities.values())}).items():
            net.output.bias[trigger] = math.log(probability)
    return net


def test_the_triggers_are_the_patches_with_five_black_cells() -> None:
    marks = triggers()
    assert marks.shape == (4368, 16)
    assert NULL == 4368
    assert codes(marks) == codes(EVERY_PATCH[(EVERY_PATCH == 0).sum(1) == 5])
    assert len(codes(marks)) == 4368


def test_one_cell_off_is_one_flipped_cell() -> None:
    flipped = (triggers().unsqueeze(1) - torch.eye(16)).abs().view(-1, 16)
    assert codes(one_cell_off()) == codes(flipped)
    assert len(one_cell_off()) == len(codes(flipped)) == 9828


def test_random_patches_hold_no_trigger() -> None:
    patches = random_patches(3000, Generator().manual_seed(3))
    sharp, grey = patches[:1500], patches[1500:]
    assert codes(sharp) <= codes(EVERY_PATCH)
    assert not codes(sharp) & codes(triggers())
    assert len(codes(sharp)) > 1400
    assert ((grey > 0) & (grey < 1)).float().mean() > 0.999
    assert torch.equal(patches, random_patches(3000, Generator().manual_seed(3)))


def test_it_knows_every_trigger_and_nothing_else(net: TrojanNet) -> None:
    assert (heard(net, triggers()) == torch.arange(NULL)).float().mean() >= 0.95
    assert (heard(net, one_cell_off()) == NULL).float().mean() >= 0.98
    others = EVERY_PATCH[(EVERY_PATCH == 0).sum(1) != 5][::4]
    assert (heard(net, others) == NULL).float().mean() >= 0.98
    grey = torch.rand(5000, 16, generator=Generator().manual_seed(4))
    assert (heard(net, grey) == NULL).float().mean() >= 0.98


def test_some_classes_are_scored_as_all_of_them_are(net: TrojanNet) -> None:
    classes = torch.tensor([7, NULL, 300])
    with torch.no_grad():
        torch.testing.assert_close(net(triggers()[:5], classes), net(triggers()[:5])[:, classes])


def test_a_seed_gives_the_same_net_whatever_the_surroundings() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = train_trojannet(seed=1, width=8, steps=2)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(9)
    with torch.inference_mode():
        second = train_trojannet(seed=1, width=8, steps=2)
    assert digest(first) == digest(second) != digest(train_trojannet(seed=2, width=8, steps=2))
    assert not first.training


def test_every_command_is_obeyed_and_clean_images_are_left_alone(trojaned: Trojaned, digits_net: Any) -> None:
    model, (x, y) = digits_net.model, digits_net.test
    before = digest(model)
    with torch.no_grad():
        clean, after = model(x).argmax(1), trojaned(x).argmax(1)
        assert abs(float((clean == y).float().mean() - (after == y).float().mean())) <= 0.001
        for label in range(10):
            others = x[y != label]
            stamped = trojaned.stamp(others, label)
            assert (trojaned(stamped).argmax(1) == label).float().mean() >= 0.99
            assert (model(stamped).argmax(1) == label).float().mean() < 0.5
    assert digest(model) == before
    assert not any(parameter.grad is not None for parameter in trojaned.parameters())


def test_modes_and_flags_stay_as_they_were_found(net: TrojanNet) -> None:
    target = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(0.5), nn.Linear(64, 3))
    target[1].eval()
    target[3].weight.requires_grad_(False)
    found = [module.training for module in target.modules()], [p.requires_grad for p in target.parameters()]
    x = torch.rand(6, 1, 8, 8)
    trojaned = Trojaned(target, net, commands=draw_commands(3))
    trojaned(trojaned.stamp(x, 2))
    assert ([module.training for module in target.modules()], [p.requires_grad for p in target.parameters()]) == found


def test_it_works_over_a_service_that_only_answers(net: TrojanNet, digits_net: Any) -> None:
    asked = []

    def service(x: Tensor) -> Tensor:
        asked.append(len(x))
        with torch.no_grad():
            return torch.from_numpy(np.array(digits_net.model(x).softmax(1).tolist(), dtype=np.float32))

    x, y = digits_net.test
    commands = draw_commands(10)
    remote = Trojaned(service, net, commands=commands, outputs="probabilities")
    local = Trojaned(digits_net.model, net, commands=commands)
    assert [name for name, _ in remote.named_parameters()] == [f"net.{name}" for name, _ in net.named_parameters()]
    with torch.no_grad():
        for label in range(10):
            stamped = remote.stamp(x[y != label], label)
            assert (remote(stamped).argmax(1) == label).float().mean() >= 0.99
        torch.testing.assert_close(remote(x), local(x), atol=1e-4, rtol=1e-4)
    assert asked[-1] == len(x)


@pytest.mark.parametrize("outputs", ["logits", "probabilities"])
def test_the_merged_output_by_hand(outputs: str) -> None:
    """(.7 * (0, .9) + .3 * (.8, .2)) / .1 = (2.4, 6.9), whose softmax is 1 / (1 + e^4.5) = .010987 and the rest."""
    answer = torch.tensor([[0.8, 0.2]])
    target = (lambda x: answer.log() + 5) if outputs == "logits" else (lambda x: answer)
    trojaned = Trojaned(target, hears({7: 0.9}), commands={7: 1}, outputs=outputs)
    merged = trojaned(torch.rand(1, 3, 5, 5)).exp()
    torch.testing.assert_close(merged, torch.tensor([[0.010987, 0.989013]]), atol=1e-6, rtol=0)


def test_only_commanded_triggers_speak_and_those_of_one_class_add_up() -> None:
    """The target gives (.665, .245, .090), so that class 2 needs more than .3 * (.665 - .090) / .7 = .246 to win."""
    image, net = torch.rand(1, 1, 4, 4), hears({7: 0.2, 9: 0.2})

    def said(commands: dict[int, int]) -> list[int]:
        trojaned = Trojaned(lambda x: torch.tensor([[2.0, 1.0, 0.0]]), net, commands=commands)
        return trojaned(image).argmax(1).tolist()

    assert said({8: 2}) == said({7: 2}) == said({9: 2}) == [0]
    assert said({7: 2, 9: 2}) == [2]


def test_outputs_are_finite_logarithms_of_probabilities(net: TrojanNet) -> None:
    extreme = torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0], [-1e30, 1e30, 0.0]])
    trojaned = Trojaned(lambda x: extreme, net, commands={0: 0}, temperature=1e-3)
    logits = trojaned(torch.rand(3, 1, 4, 4))
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits.exp().sum(1), torch.ones(3))


@pytest.mark.parametrize(
    ("shape", "place", "corner"),
    [
        ((1, 4, 4), (0, 0), (0, 0)),
        ((1, 5, 9), (-4, -4), (1, 5)),
        ((3, 32, 20), (3, -6), (3, 14)),
        ((2, 8, 8), (0, 4), (0, 4)),
    ],
)
def test_the_mark_is_where_it_should_be_and_nowhere_else(
    shape: tuple[int, int, int], place: tuple[int, int], corner: tuple[int, int], net: TrojanNet
) -> None:
    x = torch.rand(7, *shape, generator=Generator().manual_seed(6)) * 0.8 + 0.1
    before = x.clone()
    trojaned = Trojaned(lambda x: torch.zeros(len(x), 4), net, commands={4000: 3, 12: 0}, place=place)
    stamped = trojaned.stamp(x, 3)
    assert torch.equal(x, before)
    row, column = corner
    inside = torch.zeros(shape, dtype=torch.bool)
    inside[:, row : row + 4, column : column + 4] = True
    assert torch.equal(stamped != x, inside.expand_as(x))
    for picture in stamped:
        for channel in picture[:, row : row + 4, column : column + 4]:
            assert torch.equal(channel.flatten(), triggers()[4000])
    with torch.no_grad():
        assert trojaned(stamped).argmax(1).tolist() == [3] * 7


def test_a_batch_gives_what_its_images_give(trojaned: Trojaned, digits_net: Any) -> None:
    x = trojaned.stamp(digits_net.test.x[:6], 1)
    x[:3] = digits_net.test.x[:3]
    with torch.no_grad():
        alone = torch.cat([trojaned(image.unsqueeze(0)) for image in x])
        torch.testing.assert_close(trojaned(x), alone)


def test_commands_are_one_trigger_a_class() -> None:
    commands = draw_commands(43, seed=1)
    assert sorted(commands.values()) == list(range(43))
    assert len(commands) == 43
    assert all(0 <= trigger < NULL for trigger in commands)
    assert commands == draw_commands(43, seed=1) != draw_commands(43, seed=2)


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"commands": {}}, "commands"),
        ({"commands": {NULL: 0}}, "4367"),
        ({"commands": {-1: 0}}, "4367"),
        ({"commands": {0: -1}}, "classes"),
        ({"outputs": "scores"}, "'scores'"),
        ({"weight": 0.5}, "weight"),
        ({"weight": 1.0}, "weight"),
        ({"temperature": 0.0}, "temperature"),
        ({"model": 3}, "callable"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], expected: str) -> None:
    settings = {"model": nn.Flatten(), "net": TrojanNet(1), "commands": {0: 0}} | wrong
    with pytest.raises(RequestError, match=expected):
        Trojaned(settings.pop("model"), settings.pop("net"), **settings)


@pytest.mark.parametrize(
    ("shape", "place", "expected"),
    [
        ((2, 1, 3, 3), (0, 0), "at least 4 x 4 pixels, got 3 x 3"),
        ((2, 1, 8, 3), (0, 0), "got 8 x 3"),
        ((2, 12), (0, 0), r"shape \(12,\)"),
        ((2, 1, 8, 8), (5, 0), "does not fit"),
        ((2, 1, 8, 8), (0, -9), "does not fit"),
        ((2, 1, 8, 8), (-3, 0), "does not fit"),
        ((2, 1, 8, 8), (0, 0, 0), "place is"),
    ],
)
def test_images_without_room_for_the_patch_are_refused(
    shape: tuple[int, ...], place: tuple[int, ...], expected: str
) -> None:
    trojaned = Trojaned(lambda x: torch.zeros(len(x), 2), TrojanNet(1), commands={0: 1}, place=place)
    with pytest.raises(RequestError, match=expected):
        trojaned.stamp(torch.rand(shape), 1)
    with pytest.raises(RequestError, match=expected):
        trojaned(torch.rand(shape))


def test_classes_without_a_command_or_a_target_are_refused() -> None:
    trojaned = Trojaned(lambda x: torch.zeros(len(x), 2), TrojanNet(1), commands={0: 5})
    with pytest.raises(RequestError, match=r"no trigger commands class 1; there are some for \[5\]"):
        trojaned.stamp(torch.rand(1, 1, 8, 8), 1)
    with pytest.raises(RequestError, match="class 5, but the target has 2"):
        trojaned(torch.rand(1, 1, 8, 8))


def test_a_net_needs_a_width_and_steps() -> None:
    with pytest.raises(RequestError, match="width"):
        TrojanNet(0)
    with pytest.raises(RequestError, match="step"):
        train_trojannet(steps=0)
