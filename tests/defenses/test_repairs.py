"""What every repair keeps to, found by glob, and what each does to backdoored digits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Generator, nn

from defenses.planted import SEEDS, accuracy, attack_success, planted
from robustml.data import Records
from robustml.errors import RequestError
from robustml.types import Repair
from robustml.workflows.settings.building import build

CONFIGS = {path.stem: path for path in sorted((Path(__file__).parents[2] / "configs/repair").glob("*.yaml"))}
WITHOUT_CLEAN: set[str] = set()
# How much clean accuracy a repair may cost the digits' clean twin, in the median; with 180 clean records.
COSTS = {"fine_tuning": 0.04, "fine_pruning": 0.05}
# The success rate of BadNets that may be left, of 0.98.
LEFT = {"fine_tuning": 0.2, "fine_pruning": 0.2}


def repair_of(name: str, **settings: Any) -> Any:
    return build(yaml.safe_load(CONFIGS[name].read_text()) | settings)


def records(count: int = 40, seed: int = 0) -> Records:
    generator = Generator().manual_seed(seed)
    x = torch.randint(0, 256, (count, 1, 6, 6), generator=generator, dtype=torch.uint8)
    return Records(x, torch.arange(count) % 5, tuple("abcde"))


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_repair_keeps_to_its_protocol(name: str, conv_model: nn.Module) -> None:
    repair, data, clean = repair_of(name), records(), records(20, 1)
    conv_model[1].train()  # as it is found, so it is left
    conv_model[3].weight.requires_grad_(False)
    conv_model[8].weight.grad = torch.ones_like(conv_model[8].weight)
    before, random = copy.deepcopy(conv_model), torch.get_rng_state()
    gradients = [None if each.grad is None else each.grad.clone() for each in conv_model.parameters()]
    with torch.no_grad():
        found = repair(conv_model, data, clean, generator=Generator().manual_seed(1))
        again = repair(conv_model, data, clean, generator=Generator().manual_seed(1))
    assert isinstance(repair, Repair)
    assert torch.equal(torch.get_rng_state(), random), "the global random state"
    state, now = found.state_dict(), conv_model.state_dict()
    assert all(torch.equal(value, now[key]) for key, value in before.state_dict().items()), "the old model"
    assert [each.training for each in conv_model.modules()] == [each.training for each in before.modules()]
    for old, was, gradient in zip(conv_model.parameters(), before.parameters(), gradients, strict=True):
        assert old.requires_grad == was.requires_grad
        assert old.grad is gradient is None or torch.equal(old.grad, gradient)
    assert found is not conv_model
    assert not any(each.training for each in found.modules())
    assert {key: value.shape for key, value in state.items()} == {key: value.shape for key, value in now.items()}
    assert not {value.data_ptr() for value in found.parameters()} & {value.data_ptr() for value in now.values()}
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in state.items()), "the same seed"
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in [*found.modules(), *conv_model.modules()])


def test_wrong_requests_are_refused(name: str, conv_model: nn.Module) -> None:
    data = records()
    wider = Records(data.x, torch.arange(40) % 7, tuple("abcdefg"))
    with pytest.raises(RequestError, match="label 6"):
        repair_of(name)(conv_model, wider, wider)
    if name not in WITHOUT_CLEAN:
        with pytest.raises(RequestError, match="clean records"):
            repair_of(name)(conv_model, data)


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.slow
def test_it_repairs_digits(name: str) -> None:
    before, after, twins = [], [], []
    for seed in SEEDS:
        found = planted("badnets", seed)
        repaired = repair_of(name)(found.model, found.train, found.clean, generator=Generator().manual_seed(seed))
        twin = repair_of(name)(found.twin, found.clean_train, found.clean, generator=Generator().manual_seed(seed))
        before.append(attack_success(found.model, found.triggered))
        after.append(attack_success(repaired, found.triggered))
        twins.append(accuracy(found.twin, found.test) - accuracy(twin, found.test))
    print(f"{name}: success {median(before):.3f} -> {median(after):.3f}, the twin loses {median(twins):.3f}")
    assert median(before) >= 0.95
    assert median(after) <= LEFT[name]
    assert median(twins) <= COSTS[name]


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
