"""Mode connectivity: a curve of weights between two models, whose middle knows the task but neither backdoor.

Zhao, Chen, Das, Ramamurthy and Lin, "Bridging Mode Connectivity in Loss Landscapes and Adversarial Robustness" (ICLR
2020, arXiv:2005.00060), on curves by Garipov, Izmailov, Podoprikhin, Vetrov and Wilson, "Loss Surfaces, Mode
Connectivity, and Fast Ensembling of DNNs" (NeurIPS 2018, arXiv:1802.10026): a quadratic Bezier curve
``(1 - t)^2 w1 + 2 t (1 - t) w + t^2 w2``, whose bend w is trained on clean records, at a t drawn for each batch. The
statistics of batch norm are computed anew at every t.

Deviations: the two models may be one and a second training on the same records from other weights. Zhao et al. leave t
to the reader; here it is, of a grid, the t nearest to the middle whose accuracy on held-out clean records is within a
tolerance of the better end's. At t = 0 and 1 the models are handed back as they are, statistics included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from robustml.defenses.reading import read_logits, require_classes, require_clean
from robustml.defenses.repair.tuning import Rows, Tuning, anew, copied, drawing, rows_of
from robustml.errors import RequestError
from robustml.evaluation.batches import device_of
from robustml.poisoning.pixels import in_unit_range
from robustml.types import Labelled

_TRAINING = Tuning(epochs=20, learning_rate=0.003)
_TS = tuple(step / 20 for step in range(1, 20))


class _Bend(nn.Module):
    """The curve as a model: each pass in training mode is one at a t of its own."""

    def __init__(self, start: nn.Module, end: nn.Module) -> None:
        super().__init__()
        self.ends = [{name: value.detach() for name, value in each.named_parameters()} for each in (start, end)]
        self.middle = copied(start)
        with torch.no_grad():
            for name, value in self.middle.named_parameters():
                value.copy_((self.ends[0][name] + self.ends[1][name]) / 2)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.middle, self.weights(float(torch.rand(()))), (x,))
        return logits

    def weights(self, t: float) -> dict[str, Tensor]:
        start, end = self.ends
        middle = self.middle.named_parameters()
        return {name: (1 - t) ** 2 * start[name] + 2 * t * (1 - t) * value + t**2 * end[name] for name, value in middle}


@dataclass(frozen=True, eq=False)
class Path:
    """The models between two.

    Attributes:
        start: the model at t = 0.
        end: that at t = 1.
        shown: inputs (N, ...) in [0, 1], which batch norm computes its statistics of.
        chosen: the t to keep.
        held_out_accuracy: the share of held-out clean records that each t of the grid, and both ends, read right.
    """

    start: nn.Module
    end: nn.Module
    bend: _Bend
    shown: Tensor
    chosen: float = 0.5
    held_out_accuracy: Mapping[float, float] | None = None

    def at(self, t: float) -> nn.Module:
        """The model at t in [0, 1] on the curve, in eval mode."""
        return self._model(t, self.bend.weights(t))

    def straight(self, t: float) -> nn.Module:
        """The model at t in [0, 1] on the straight line, in eval mode."""
        start, end = self.bend.ends
        return self._model(t, {name: torch.lerp(value, end[name], t) for name, value in start.items()})

    @torch.no_grad()
    def _model(self, t: float, weights: Mapping[str, Tensor]) -> nn.Module:
        if not 0 <= t <= 1:
            raise RequestError(f"t must be in [0, 1], from one model to the other; got {t}")
        found = copied(self.end if t == 1 else self.start).eval()
        if t in (0, 1):
            return found
        for name, value in found.named_parameters():
            value.copy_(weights[name])
        return with_statistics(found, self.shown)


@torch.no_grad()
def with_statistics(model: nn.Module, x: Tensor, batch_size: int = 250) -> nn.Module:
    """The model itself, in eval mode, its batch norm with the statistics of inputs (N, ...) in [0, 1]."""
    norms = [each for each in model.modules() if isinstance(each, _BatchNorm) and each.track_running_stats]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over batches
        norm.train()
    if norms:
        for part in torch.tensor_split(x, -(-len(x) // batch_size)):
            model(part.to(device_of(model)))
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    return model.eval()


@dataclass(frozen=True)
class ModeConnectivity(Tuning):
    """The model in the middle of a path. Further arguments are those of `Tuning`, for the bend.

    Args:
        other: the model at the far end, of the same architecture; None trains one on the records under suspicion, from
            other weights.
        held_out: the share of the clean records that t is chosen on.
        tolerance: how far below the better end's accuracy on them the chosen t may be.
        training: of the second model.
    """

    other: nn.Module | None = None
    epochs: int = 40
    held_out: float = 0.2
    tolerance: float = 0.03
    training: Tuning = _TRAINING

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.held_out < 1:
            raise RequestError(f"held_out, a share of the clean records, must be in (0, 1), got {self.held_out}")
        self._at_least(0, "tolerance")

    def __call__(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> nn.Module:
        """The model at the chosen t of `path`."""
        path = self.path(model, records, clean, generator=generator)
        return path.at(path.chosen)

    def path(
        self, model: nn.Module, records: Labelled, clean: Labelled | None = None, *, generator: Generator | None = None
    ) -> Path:
        """The curve, and the t that the held-out clean records choose.

        Raises:
            RequestError: no clean records, other classes, or another architecture at the far end.
        """
        clean = require_clean(clean, "mode connectivity", 5)
        require_classes(model, clean)
        with drawing(model, generator):
            start, end = copied(model).eval(), self._end(model, records)
            order = torch.randperm(len(clean.y))
            count = max(1, round(self.held_out * len(order)))
            held_out, rest = rows_of(clean, order[:count]), rows_of(clean, order[count:])
            bend = _Bend(start, end)
            self.fit(bend, rest, what="bending")
        path = Path(start, end, bend, in_unit_range(rest.x))
        accuracies = {t: _accuracy(path.at(t), held_out) for t in (0.0, *_TS, 1.0)}
        least = max(accuracies[0.0], accuracies[1.0]) - self.tolerance - 1e-9
        # Where none is good enough, the best one: an end would be no repair.
        good = [t for t in _TS if accuracies[t] >= least] or [max(_TS, key=accuracies.__getitem__)]
        return replace(path, chosen=min(good, key=lambda t: abs(t - 0.5)), held_out_accuracy=accuracies)

    def _end(self, model: nn.Module, records: Labelled) -> nn.Module:
        if self.other is None:
            require_classes(model, records)
            return self.training.fit(anew(model), records, what="training the other end")
        shapes = [{name: value.shape for name, value in each.state_dict().items()} for each in (model, self.other)]
        if shapes[0] != shapes[1]:
            raise RequestError("the other model has another architecture: a path joins two of one")
        return copied(self.other).to(device_of(model)).eval()


def _accuracy(model: nn.Module, rows: Rows) -> float:
    return float((read_logits(model, rows.x).argmax(1) == rows.y.cpu()).double().mean())
