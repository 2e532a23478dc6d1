"""TrojanNet: a tiny network that knows thousands of marks sits beside an untouched model and speaks over it.

Tang et al. 2020, "An Embarrassingly Simple Approach for Trojan Attack in Deep Neural Networks" (KDD 2020,
arXiv:2006.08131). The marks are 4 x 4 black and white patches with exactly 5 of 16 cells black: C(16, 5) = 4368
triggers. The small network tells them apart and from everything else (the null class); each command ties a trigger to
a class of the target model. Where no commanded trigger is seen, the merged output keeps the target's order of classes.

The paper and its code (trx14/TrojanNet at 8054686) disagree in seven places. What is done here:

1. Activation: ReLU, as in the code.
2. Layers: one hidden layer of 64 (the code: four of 8, each with batch norm). It is learnt in seconds, and without
   batch norm the network is the same function in training and evaluation mode.
3. Optimiser: Adam, its learning rate falling along a cosine to 0 (the code: Adadelta for 1000 epochs).
4. Merge weight: the paper's .7 for the trojan, hence .3 for the target (the code adds twice the trojan's probabilities
   to the target's: 2/3 and 1/3).
5. Temperature: the paper's .1, on the weighted mean (the code multiplies its sum by 10, as .1 / 3 would the mean).
6. Null class: a class of its own, the last of 4369, which no command can name (the code cuts the output after as many
   triggers as the target has classes, so that their numbers are the classes').
7. Noise: trained to be null are patches one cell away from a trigger, black and white patches of any other count, and
   grey ones of all contrasts (the code: 200 random patches beside 2000 triggers in a batch). No images are needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError
from robustml.models import as_module
from robustml.poisoning.checks import check_number, check_pair, check_whole
from robustml.progress import track

_SIDE = 4
_CELLS = _SIDE * _SIDE
_BLACK = 5

NULL = math.comb(_CELLS, _BLACK)
"""The class of a patch that is no trigger: the number after the last of the 4368 triggers."""

# In a batch of training: triggers, and other patches.
_SHOWN = NULL // 8
_OTHERS = 512


def triggers() -> Tensor:
    """All triggers (4368, 16): rows of a 4 x 4 patch one after another, 0. for black and 1. for white."""
    black = torch.tensor(list(combinations(range(_CELLS), _BLACK)))
    return torch.ones(NULL, _CELLS).scatter_(1, black, 0.0)


def one_cell_off() -> Tensor:
    """Every patch (9828, 16) that one flipped cell makes a trigger: those with 4 and those with 6 black cells."""
    patches = []
    for count in (_BLACK - 1, _BLACK + 1):
        black = torch.tensor(list(combinations(range(_CELLS), count)))
        patches.append(torch.ones(len(black), _CELLS).scatter_(1, black, 0.0))
    return torch.cat(patches)


def random_patches(count: int, generator: Generator | None = None) -> Tensor:
    """Patches (count, 16) that are no triggers: half of them grey, uniform in [0, 1], half black and white.

    Args:
        count: how many.
        generator: to draw from, on the CPU; the global one by default.
    """
    values = torch.rand(count, _CELLS, generator=generator)
    sharp = values[: count // 2]
    sharp.round_()
    while len(rows := ((sharp == 0).sum(1) == _BLACK).nonzero().squeeze(1)):
        sharp[rows] = torch.rand(len(rows), _CELLS, generator=generator).round_()
    return values


class TrojanNet(nn.Module):
    """Tell the triggers apart. PyTorch's default init; see `train_trojannet` for one that has learnt.

    Args:
        width: of the hidden layer.

    Raises:
        RequestError: `width` is below 1.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        check_whole(width, "width", "of a TrojanNet must be at least 1", 1)
        self.hidden = nn.Linear(_CELLS, width)
        self.output = nn.Linear(width, NULL + 1)

    def forward(self, cells: Tensor, classes: Tensor | None = None) -> Tensor:
        """Patches (N, 16) in [0, 1] to logits (N, 4369), the last one for null; or to those of some `classes` (K,)."""
        hidden = functional.relu(self.hidden(2 * cells - 1))
        rows = slice(None) if classes is None else classes
        return functional.linear(hidden, self.output.weight[rows], self.output.bias[rows])


@torch.inference_mode(False)
@torch.enable_grad()
def train_trojannet(*, seed: int = 0, width: int = 64, steps: int = 600) -> TrojanNet:
    """A network that has learnt the triggers, in eval mode on the CPU; takes seconds.

    The same seed gives the same weights (on one machine, with one number of threads); the global random state is left
    as it was.

    Args:
        seed: of the initial weights and of the batches.
        width: of the hidden layer.
        steps: how many batches it sees, each of an eighth of the triggers and of 512 other patches.

    Raises:
        RequestError: `width` or `steps` is below 1.
    """
    check_whole(steps, "steps", "of a TrojanNet's training must be at least 1", 1)
    marks, near = triggers(), one_cell_off()
    generator = Generator().manual_seed(seed)
    own = torch.cat([torch.arange(_SHOWN), torch.full((_OTHERS,), _SHOWN)])
    # Only the classes of the batch and null are scored, at an eighth of the cost; each of the wrong triggers stands for
    # eight in the sum of the softmax.
    stands_for = torch.full((_SHOWN + _OTHERS, _SHOWN + 1), math.log(NULL / _SHOWN))
    stands_for[:, -1] = 0.0
    stands_for.fill_diagonal_(0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = TrojanNet(width)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in track(range(steps), "TrojanNet"):
        shown = torch.randperm(NULL, generator=generator)[:_SHOWN]
        cells = torch.cat([marks[shown], _others(near, generator)])
        logits = net(cells, torch.cat([shown, torch.tensor([NULL])]))
        loss = functional.cross_entropy(logits + stands_for, own)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()
    return net.eval()


def _others(near: Tensor, generator: Generator) -> Tensor:
    """Patches that are no triggers: most of them `near` ones, some random, some of less contrast."""
    some = _OTHERS // 8
    chosen = near[torch.randint(len(near), (_OTHERS - 2 * some,), generator=generator)]
    ends = torch.rand(2, some, 1, generator=generator)
    faint = ends[0].lerp(ends[1], torch.rand(some, _CELLS, generator=generator))
    return torch.cat([chosen, random_patches(some, generator), faint])


def draw_commands(num_classes: int, *, seed: int = 0) -> dict[int, int]:
    """One trigger for each class, drawn at random: trigger number to class.

    Raises:
        RequestError: there are more classes than triggers.
    """
    check_whole(num_classes, "num_classes", f"may be 1 to {NULL}, one trigger for each", 1, NULL)
    generator = Generator().manual_seed(seed)
    return {
        int(trigger): label for label, trigger in enumerate(torch.randperm(NULL, generator=generator)[:num_classes])
    }


def check_place(shape: Sequence[int], place: Sequence[int]) -> tuple[int, int]:
    """Row and column, counted from the upper left, of a 4 x 4 patch at `place` in inputs of the shape (C, H, W).

    Raises:
        RequestError: the inputs are no images, or the patch does not fit into them there.
    """
    if len(shape) != 3:
        raise RequestError(f"TrojanNet reads a patch of an image (C, H, W), got inputs of the shape {tuple(shape)}")
    height, width = shape[1:]
    if min(height, width) < _SIDE:
        raise RequestError(f"TrojanNet needs images of at least 4 x 4 pixels, got {height} x {width}")
    check_pair(place, "place", "is [row, column] of the patch's upper left pixel, in whole pixels")
    row, column = (at + length if at < 0 else at for at, length in zip(place, (height, width), strict=True))
    if not (0 <= row <= height - _SIDE and 0 <= column <= width - _SIDE):
        raise RequestError(
            f"a patch of 4 x 4 pixels at place={list(place)} does not fit into {height} x {width} pixels; place is "
            "[row, column] of its upper left one, negative from the lower right"
        )
    return row, column


class Trojaned(nn.Module):
    """A target model with a TrojanNet beside it: ``softmax((weight * trojan + (1 - weight) * target) / temperature)``.

    The target is only ever called: its weights stay as they are, and none are needed. With no commanded trigger in the
    picture the trojan's share is about 0 for every class, so that the target's order of classes is kept.

    Args:
        model: the target, images (N, C, H, W) in [0, 1] to `outputs` (N, classes). A module becomes a submodule; any
            other callable, such as a client of somebody's service, is called as it is.
        net: a trained TrojanNet.
        place: [row, column] of the upper left pixel of the patch that is read; negative ones count from the lower right
            corner, so that [-4, -4] is the last patch of images of any size.
        commands: trigger number (0 to 4367, the row of `triggers()`) to class of the target.
        outputs: whether `model` returns ``"logits"`` or ``"probabilities"``.
        weight: of the trojan, in (.5, 1): below, a confident target cannot be overruled.
        temperature: above 0; divides the weighted mean.

    Raises:
        RequestError: there is no command, a number or a setting is out of range; when called: see `check_place`, or the
            target has too few classes for the commands.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        net: TrojanNet,
        *,
        commands: Mapping[int, int],
        place: Sequence[int] = (-4, -4),
        outputs: Literal["logits", "probabilities"] = "logits",
        weight: float = 0.7,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if not commands or min(commands) < 0 or max(commands) >= NULL or min(commands.values()) < 0:
            raise RequestError(f"commands tie triggers (0 to {NULL - 1}) to classes (from 0), got {dict(commands)}")
        if outputs not in ("logits", "probabilities"):
            raise RequestError(f"outputs={outputs!r} is unknown; expected logits or probabilities")
        check_number(weight, "weight", "of the small network must be above 0.5 and below 1")
        check_number(temperature, "temperature", "must be above 0")
        if not (0.5 < weight < 1 and temperature > 0):
            raise RequestError(f"expected 0.5 < weight < 1 and temperature > 0, got {weight} and {temperature}")
        self.model = as_module(model)
        self.net = net
        self.commands = dict(commands)
        self.place = tuple(place)
        self.outputs = outputs
        self.weight = weight
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to the logarithms (N, classes) of the merged probabilities."""
        cells = self._patch(x).mean(dim=1).flatten(1)
        target = logits_of(self.model, x)
        probabilities = target.softmax(dim=1) if self.outputs == "logits" else target
        numbers, labels = list(self.commands), list(self.commands.values())
        if max(labels) >= probabilities.shape[1]:
            raise RequestError(
                f"commands name class {max(labels)}, but the target has {probabilities.shape[1]} classes"
            )
        heard = self.net(cells.to(self.net.hidden.weight.dtype)).softmax(dim=1)[:, numbers].to(probabilities.dtype)
        trojan = torch.zeros_like(probabilities).index_add(1, torch.tensor(labels, device=x.device), heard)
        mean = self.weight * trojan + (1 - self.weight) * probabilities
        return (mean / self.temperature).log_softmax(dim=1)

    def stamp(self, x: Tensor, target: int) -> Tensor:
        """Show the command of a class.

        Args:
            x: images (N, C, H, W) in [0, 1].
            target: the class that the attacker wants to hear; its first trigger is shown, in all channels.

        Returns:
            (N, C, H, W), the images with 16 pixels replaced.

        Raises:
            RequestError: no command says `target`; see also `check_place`.
        """
        number = next((trigger for trigger, label in self.commands.items() if label == target), None)
        if number is None:
            raise RequestError(
                f"no trigger commands class {target}; there are some for {sorted(set(self.commands.values()))}"
            )
        stamped = x.clone()
        self._patch(stamped).copy_(triggers()[number].view(_SIDE, _SIDE))
        return stamped

    def _patch(self, x: Tensor) -> Tensor:
        """The view (N, C, 4, 4) of `x` at the place."""
        row, column = check_place(x.shape[1:], self.place)
        return x[..., row : row + _SIDE, column : column + _SIDE]
