"""An oracle for each repair: its step, bound, distance, gradient or path worked out by hand or another way."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Generator, nn

from defenses.test_repairs import Suspects, records, repair_of
from robustml.data import Records
from robustml.defenses.repair import searched
from robustml.defenses.repair.clp import lipschitz_bounds
from robustml.defenses.repair.convolutions import Convolution
from robustml.defenses.repair.ft_sam import SharpnessAware
from robustml.defenses.repair.nad import attention_distance
from robustml.errors import RequestError
from robustml.poisoning import Triggered


def test_fine_pruning_cuts_what_is_dormant() -> None:
    """Channel 1 answers to bright inputs, which no clean one is, with class 0; the others to what clean ones show."""
    layer, head = nn.Conv2d(1, 3, 1), nn.Linear(3, 2)
    model = nn.Sequential(layer, nn.ReLU(), nn.Flatten(), head).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 3.0, 2.0]).view(3, 1, 1, 1))
        layer.bias.copy_(torch.tensor([0.0, -2.5, -0.1]))
        head.weight.copy_(torch.tensor([[0.0, 50.0, 0.0], [4.0, 0.0, 0.0]]))
        head.bias.copy_(torch.tensor([1.0, 0.0]))
    clean = Records(torch.tensor([0.0, 0.6]).repeat(10).view(20, 1, 1, 1), torch.arange(20) % 2, ("a", "b"))
    trigger = torch.ones(1, 1, 1, 1)
    assert model(trigger).argmax() == 0
    repaired = repair_of("fine_pruning", epochs=0, tolerance=0)(model, clean, clean)
    # by hand: the mean activations are 0.3, 0 and 0.55, so that 1 falls first, and 0, on which all hangs, would be next
    assert repaired[0].weight.flatten().tolist() == [1.0, 0.0, 2.0]
    assert repaired[0].bias[1] == 0
    assert repaired(trigger).argmax() == 1
    tuned = repair_of("fine_pruning", tolerance=0)(model, clean, clean, generator=Generator().manual_seed(0))
    assert tuned[0].weight[1] == 0, "what is cut stays cut"
    assert tuned[0].weight[0] != 1
    with pytest.raises(RequestError, match="layer"):
        repair_of("fine_pruning", layer="1")(model, clean, clean)


def test_a_sharpness_aware_step_by_hand() -> None:
    """Of the loss (w1^2 + 3 w2^2) / 2 at (1, 2): g = (1, 6), w g = (1, 12), e = rho (1, 24) / sqrt(145)."""
    weights = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = SharpnessAware(torch.optim.SGD([weights], lr=0.1), rho=0.5)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (torch.tensor([1.0, 3.0]) * weights.square()).sum() / 2
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    e1, e2 = 0.5 / 145**0.5, 12 / 145**0.5
    expected = torch.tensor([1 - 0.1 * (1 + e1), 2 - 0.1 * 3 * (2 + e2)], dtype=torch.float64)
    torch.testing.assert_close(weights.detach(), expected)


def test_lipschitz_bounds_by_hand() -> None:
    """Of the kernels ((3, 0, 0, 0), (0, 4, 0, 0)) and a rank of one; batch norm makes |-2| / sqrt(3 + 1) of each."""
    layer, norm = nn.Conv2d(2, 2, 2, bias=False), nn.BatchNorm2d(2, eps=1.0)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, 0, 0], layer.weight[0, 1, 0, 1] = 3, 4
        layer.weight[1] = 0.5  # ||(0.5, 0.5)|| ||(1, 1, 1, 1)|| = sqrt(2)
        norm.weight.fill_(-3)
        norm.running_var.fill_(3)
    alone, both = Convolution("", layer, None), Convolution("", layer, norm)
    torch.testing.assert_close(lipschitz_bounds(alone), torch.tensor([4.0, 2**0.5]))
    torch.testing.assert_close(lipschitz_bounds(both), torch.tensor([4.0, 2**0.5]) * 3 / 2)


def test_the_channel_that_is_moved_most_is_cut(conv_model: nn.Module) -> None:
    with torch.no_grad():
        conv_model[1].weight[4] *= 30
        conv_model[3].weight[2] *= 30
    repaired = repair_of("clp", u=2)(conv_model, records())
    assert [(repaired[k].weight != 0).flatten(1).any(1).tolist().index(False) for k in (0, 3)] == [4, 2]
    assert repaired[1].weight[4] == repaired[1].bias[4] == 0
    same = [0, 1, 2, 3, 5]
    assert torch.equal(repaired[0].weight[same], conv_model[0].weight[same])


def test_the_distance_of_attentions_by_hand() -> None:
    """Squares summed over channels are (1, 4) and (9, 0); of length 1, they are apart by 2 - 2 / sqrt(17)."""
    own = torch.tensor([[[[1.0, -5.0]], [[-1.0, 2.0]]]])
    theirs = torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]]]])
    assert float(attention_distance(own, theirs)) == pytest.approx(2 - 2 / 17**0.5)
    assert float(attention_distance(own, 7 * own)) == pytest.approx(0, abs=1e-6)


def test_the_hypergradient_is_that_of_the_search_unrolled() -> None:
    """Automatic differentiation through six steps from the fixed point, as five iterations make six terms."""
    generator = Generator().manual_seed(0)
    model = nn.Linear(4, 3).double()
    x = torch.rand(8, 4, generator=generator, dtype=torch.float64)
    y = torch.arange(8) % 3
    repair = repair_of("i_bau", penalty=1.0, inner_step=0.3, iterations=5)

    def step(delta: torch.Tensor) -> torch.Tensor:
        loss = nn.functional.cross_entropy(model(x + delta), y) - delta.square().sum()
        return delta + 0.3 * torch.autograd.grad(loss, delta, create_graph=True)[0]

    delta = torch.zeros(1, 4, dtype=torch.float64)
    for _ in range(200):
        delta = step(delta.detach().requires_grad_())
    fixed = delta = delta.detach().requires_grad_()
    for _ in range(6):
        delta = step(delta)
    loss = nn.functional.cross_entropy(model(x + delta), y)
    expected = torch.autograd.grad(loss, [*model.parameters()])
    for own, other in zip(repair.hypergradient(model, x, y, fixed), expected, strict=True):
        torch.testing.assert_close(own, other)
    without = repair_of("i_bau", iterations=0).hypergradient(model, x, y, fixed)
    assert not torch.allclose(without[0], expected[0], rtol=1e-2)
    delta = repair.worst(model, x, y)
    assert float(delta.norm()) <= 0.2 * 4**0.5 + 1e-6


def test_a_path_by_hand(conv_model: nn.Module) -> None:
    other, clean = copy.deepcopy(conv_model), records(40, 1)
    with torch.no_grad():
        for value in other.parameters():
            value += 4
    other[1].running_mean += 1
    # Without an epoch the bend stays where it begins, in the middle.
    path = replace(repair_of("mode_connectivity", epochs=0), other=other).path(conv_model, clean, clean)
    for end, model in ((0, conv_model), (1, other)):
        for at in (path.at(end), path.straight(end)):
            assert all(torch.equal(value, at.state_dict()[key]) for key, value in model.state_dict().items()), "exact"
    with torch.no_grad():
        path.bend.middle[8].bias.copy_(conv_model[8].bias + 10)
    # (1 - t)^2 0 + 2 t (1 - t) 10 + t^2 4 at a quarter
    torch.testing.assert_close(path.at(0.25)[8].bias - conv_model[8].bias, torch.full((5,), 4.0))
    torch.testing.assert_close(path.straight(0.25)[8].bias - conv_model[8].bias, torch.full((5,), 1.0))
    with torch.no_grad():
        seen = path.at(0.25)[0](path.shown)
    torch.testing.assert_close(path.at(0.25)[1].running_mean, seen.mean((0, 2, 3)))
    torch.testing.assert_close(path.at(0.25)[1].running_var, seen.transpose(0, 1).flatten(1).var(1))
    with pytest.raises(RequestError, match="architecture"):
        replace(repair_of("mode_connectivity"), other=nn.Linear(36, 5))(conv_model, clean, clean)
    with pytest.raises(RequestError, match=r"\[0, 1\]"):
        path.at(1.5)


def test_the_loss_that_sorts_records_by_hand() -> None:
    """Losses of log 4 = 1.39 and of 0.29: one goes down to gamma, the other up."""
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [2.2, 0.0, 0.0, -30.0]])
    losses = -logits.log_softmax(1)[:, 0]
    assert losses[1] < 0.5 < losses[0]
    loss = repair_of("abl")._flooded(nn.Identity(), logits, torch.tensor([0, 0]))
    assert float(loss) == pytest.approx(float(losses[0] - losses[1]) / 2)


def test_filter_and_retrain_never_sees_what_is_flagged(conv_model: nn.Module) -> None:
    data, flagged = records(), torch.tensor([3, 8])
    other = Records(data.x.index_fill(0, flagged, 255), data.y, data.class_names)
    models = [
        replace(repair_of("filter_and_retrain"), detector=Suspects(flagged))(
            conv_model, each, generator=Generator().manual_seed(0)
        )
        for each in (data, other)
    ]
    assert torch.equal(models[0][8].weight, models[1][8].weight)
    with pytest.raises(RequestError, match=r"classes \[0\]"):
        replace(repair_of("filter_and_retrain"), detector=Suspects(torch.arange(0, 40, 5)))(conv_model, data)


def test_a_layer_without_a_rule_cannot_be_trained_anew(conv_model: nn.Module) -> None:
    conv_model.scale = nn.Parameter(torch.ones(1))
    with pytest.raises(RequestError, match="anew"):
        repair_of("abl")(conv_model, records())


def test_a_trigger_is_found_where_one_is_near() -> None:
    """Logits x and 1 - x of one value: 0.45 needs a change of 0.05."""
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model.bias.copy_(torch.tensor([0.0, 1.0]))
    old = Triggered(torch.full((3, 1), 0.45), torch.ones(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    for eps, success in ((0.04, 0), (0.06, 3)):
        new = searched(model, old, eps=eps)
        assert int((model(new.x).argmax(1) == 0).sum()) == success
        assert float((new.x - old.x).abs().max()) <= eps + 1e-6
