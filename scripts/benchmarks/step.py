"""The training step of TRADES, MART and AWP against its passes in bare PyTorch: `python scripts/benchmarks/step.py`.

In one process, on the same batch, interleaved so that a noisy machine slows both alike:

- bare: the k attack steps (forward, input gradient), the passes of the loss, one backward pass and one optimizer step,
  in plain PyTorch written with equal care;
- robustml: `RobustClassifier.training_step` with the objective, backward, and the same optimizer step.

Prints the median seconds a step and the ratio to bare (the median over rounds of the ratio within a round, and its
quartiles), and writes them as JSON. At most 1.05 is wanted. On a CPU the attacks' faster gradient of convolutions over
one to three channels is part of ours: `--channels 4` leaves it out, and shows what is added to the passes alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD

from robustml import models
from robustml.attacks import KLPGD, PGD
from robustml.objectives import AWP, MART, TRADES, Adversarial
from robustml.threats import LpBall
from robustml.training import RobustClassifier
from robustml.types import Objective

EPS, STEPS, GAMMA = 0.3, 10, 0.01
STEP_SIZE = 2.5 * EPS / STEPS
MODELS = {"wong_cnn": "WongCNN", "trades_small_cnn": "TradesSmallCNN", "batch_norm_cnn": "BatchNormCNN"}
Step = Callable[[], None]
Climbed = Callable[[Tensor], Tensor]


def network(name: str, channels: int) -> nn.Module:
    """The network of the benchmark, training."""
    torch.manual_seed(0)
    model: nn.Module = getattr(models, MODELS[name])((channels, 28, 28), 10)
    return model.train()


def optimizer_of(model: nn.Module) -> SGD:
    """The same for both."""
    return SGD(model.parameters(), lr=0.01, momentum=0.9)


def ours(objective: Objective, model: nn.Module, x: Tensor, y: Tensor) -> Step:
    """What the trainer does with a batch."""
    module, optimizer = RobustClassifier(model, objective, LpBall("inf", EPS), SGD), optimizer_of(model)

    def step() -> None:
        loss = module.training_step((x, y), 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def climb(model: nn.Module, x: Tensor, start: Tensor, loss: Climbed) -> Tensor:
    """The attack of all of them: k forward and input-gradient passes in eval mode, with frozen parameters."""
    low, high = (x - EPS).clamp_(0, 1), (x + EPS).clamp_(0, 1)
    x_adv = start
    for _ in range(STEPS):
        x_adv.requires_grad_()
        (gradient,) = torch.autograd.grad(loss(model(x_adv)), x_adv)
        x_adv = torch.clamp(x_adv.detach() + STEP_SIZE * gradient.sign_(), low, high)
    return x_adv


def attacked(model: nn.Module, craft: Callable[[], Tensor]) -> Tensor:
    """`craft`'s examples, with the model in eval mode and its parameters frozen meanwhile."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    model.eval()
    x_adv = craft()
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return x_adv


def bare_trades(model: nn.Module, x: Tensor, y: Tensor) -> Step:
    """The clean prediction, k passes that climb the divergence from it, and two training passes."""
    optimizer = optimizer_of(model)

    def craft() -> Tensor:
        with torch.no_grad():
            clean = model(x).log_softmax(1)
        start = (x + 0.001 * torch.randn_like(x)).clamp_(0, 1)
        return climb(
            model,
            x,
            start,
            lambda logits: functional.kl_div(logits.log_softmax(1), clean, reduction="sum", log_target=True),
        )

    def step() -> None:
        x_adv = attacked(model, craft)
        clean, adversarial = model(x), model(x_adv)
        divergence = functional.kl_div(
            adversarial.log_softmax(1), clean.log_softmax(1), reduction="batchmean", log_target=True
        )
        loss = functional.cross_entropy(clean, y) + 6.0 * divergence
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def bare_mart(model: nn.Module, x: Tensor, y: Tensor) -> Step:
    """K passes that climb the cross-entropy, and two training passes."""
    optimizer = optimizer_of(model)

    def craft() -> Tensor:
        start = (x + 0.001 * torch.randn_like(x)).clamp_(0, 1)
        return climb(model, x, start, lambda logits: functional.cross_entropy(logits, y, reduction="sum"))

    def step() -> None:
        x_adv = attacked(model, craft)
        clean, adversarial = model(x).softmax(1), model(x_adv)
        probability = adversarial.softmax(1)
        top = probability.detach().topk(2, dim=1).indices
        wrong = torch.where(top[:, 0] == y, top[:, 1], top[:, 0])
        boosted = functional.cross_entropy(adversarial, y)
        boosted = boosted + functional.nll_loss((1.0001 - probability + 1e-12).log(), wrong)
        divergence = (clean * ((clean + 1e-12).log() - (probability + 1e-12).log())).sum(1)
        unsure = 1.0000001 - clean.gather(1, y.unsqueeze(1)).squeeze(1)
        loss = boosted + 5.0 * (divergence * unsure).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def bare_awp(model: nn.Module, x: Tensor, y: Tensor) -> Step:
    """K passes that climb the cross-entropy, a pass for the weights' change, one training pass in between two sums."""
    optimizer = optimizer_of(model)
    weights = [parameter for name, parameter in model.named_parameters() if parameter.dim() > 1 and "weight" in name]

    def craft() -> Tensor:
        start = (x + torch.empty_like(x).uniform_(-EPS, EPS)).clamp_(0, 1)
        return climb(model, x, start, lambda logits: functional.cross_entropy(logits, y, reduction="sum"))

    def step() -> None:
        x_adv = attacked(model, craft)
        statistics = [buffer.clone() for buffer in model.buffers()]
        gradients = torch.autograd.grad(functional.cross_entropy(model(x_adv), y), weights)
        with torch.no_grad():
            for buffer, before in zip(model.buffers(), statistics, strict=True):
                buffer.copy_(before)
            for weight, gradient in zip(weights, gradients, strict=True):
                gradient.mul_(GAMMA * weight.norm() / (gradient.norm() + 1e-20))
                weight.add_(gradient)
        loss = functional.cross_entropy(model(x_adv), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(gradient)

    return step


def methods() -> dict[str, tuple[Objective, Callable[[nn.Module, Tensor, Tensor], Step]]]:
    """Each method: ours, and its passes."""
    noisy = PGD(steps=STEPS, step_size=STEP_SIZE, start_noise=0.001)
    pgd = PGD(steps=STEPS, step_size=STEP_SIZE)
    return {
        "trades": (TRADES(KLPGD(steps=STEPS, step_size=STEP_SIZE), beta=6.0), bare_trades),
        "mart": (MART(noisy, beta=5.0), bare_mart),
        "awp": (AWP(Adversarial(pgd), gamma=GAMMA), bare_awp),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="wong_cnn")
    parser.add_argument("--channels", type=int, default=1, help="of the images; with 4, no thin convolution is sped up")
    parser.add_argument("--size", type=int, default=128, help="batch size")
    parser.add_argument("--steps", type=int, default=3, help="training steps a round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(arguments.size, arguments.channels, 28, 28, generator=generator)
    y = torch.randint(0, 10, (arguments.size,), generator=generator)
    rows = {}
    for name, (objective, bare) in methods().items():
        first, second = (network(arguments.model, arguments.channels) for _ in range(2))
        loops = {"bare": bare(first, x, y), "robustml": ours(objective, second, x, y)}
        rows[name] = measure(loops, arguments.steps, arguments.rounds)
    report(rows, arguments)


def measure(loops: dict[str, Step], steps: int, rounds: int) -> dict[str, list[float]]:
    """Seconds a step of each loop in each round; the first round warms up, and the order turns every round."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    order = list(loops)
    for round_number in range(rounds + 1):
        for name in order:
            began = time.perf_counter()
            for _ in range(steps):
                loops[name]()
            if round_number:
                seconds[name].append((time.perf_counter() - began) / steps)
        order.reverse()
    return seconds


def report(rows: dict[str, dict[str, list[float]]], arguments: argparse.Namespace) -> None:
    """Print the table; write the JSON."""
    where = {"model": arguments.model, "channels": arguments.channels, "size": arguments.size, "attack_steps": STEPS}
    where |= {"rounds": arguments.rounds, "steps_a_round": arguments.steps}
    where |= {"threads": torch.get_num_threads(), "torch": torch.__version__}
    print(", ".join(f"{name} {value}" for name, value in where.items()))
    table = {}
    for name, seconds in rows.items():
        ratios = [own / bare for own, bare in zip(seconds["robustml"], seconds["bare"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        table[name] = {"ratio": middle, "quartiles": [low, high]} | {
            f"{loop}_seconds": statistics.median(times) for loop, times in seconds.items()
        }
        bare, own = (1000 * statistics.median(seconds[loop]) for loop in ("bare", "robustml"))
        print(f"{name:<8} bare {bare:8.1f} ms   robustml {own:8.1f} ms   {middle:.3f} x bare ({low:.3f} to {high:.3f})")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(where | {"rows": table}, indent=2) + "\n")


if __name__ == "__main__":
    main()
