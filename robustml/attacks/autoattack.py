"""AutoAttack: four complementary attacks without parameters, each on what the others left.

Croce & Hein 2020 (arXiv:2003.01690); the L1 version is that of Croce & Hein 2021 (arXiv:2103.01208). The order and the
budgets are the papers': "standard" runs APGD on the cross-entropy, APGD on the targeted DLR loss, FAB-T and Square;
"plus" adds APGD on the DLR loss and FAB on all classes, with five restarts; "rand" averages gradients over 20 passes,
for models with random outputs.

Deviations: those of the members (see their files). The classes are counted in the model's own logits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, get_args

import torch
from torch import Generator, Tensor, nn

from robustml.attacks.apgd import APGD
from robustml.attacks.engine.captured import Captured, cuda_graphs
from robustml.attacks.engine.gradient import crafting, logits_of
from robustml.attacks.engine.low_precision import HalfPrecision, search_in_half_precision
from robustml.attacks.engine.processes import attack_in_processes, available_processes
from robustml.attacks.engine.setup import required
from robustml.attacks.fab import FAB
from robustml.attacks.square import Square
from robustml.deadline import keeping
from robustml.errors import RequestError, nearest
from robustml.progress import note
from robustml.threats import LpBall
from robustml.types import Attack, Threat

Version = Literal["standard", "plus", "rand"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class AutoAttack:
    """The ensemble of Croce & Hein.

    Args:
        version: ``"standard"``, ``"plus"`` or ``"rand"``.
        batch_size: most examples in one forward pass.
        processes: over how many processes to spread the examples on a CPU; None takes one a thread. Images and verdicts
            do not depend on it, up to rounding.
        precision: ``"bfloat16"`` searches in half precision and confirms every success on the model itself: faster on
            accelerators and on CPUs with AMX. FAB stays as it is, since it measures distances to the boundary.
        graphs: on a CUDA device, capture the model's passes as graphs and replay them (see
            `robustml.attacks.engine.captured`). For models in eval mode without random outputs. Not yet run on a GPU.
        only: the name of one member, such as ``"apgd-t"``, to run it as the whole would have; None runs them all.

    Raises:
        RequestError: another version, precision or member, or `graphs` where they cannot be; later: `graphs` off CUDA.
    """

    version: Version = "standard"
    batch_size: int = 250
    processes: int | None = None
    precision: Precision = "float32"
    graphs: bool = False
    only: str | None = None

    gives_up: ClassVar[bool] = True
    """What it does not turn comes back as it was."""

    def __post_init__(self) -> None:
        """Refuse what could only fail later, in the middle of an evaluation."""
        if self.version not in get_args(Version):
            hint = nearest(str(self.version), get_args(Version))
            raise RequestError(f"AutoAttack has no version {self.version!r}; {hint}")
        if self.precision not in get_args(Precision):
            hint = nearest(str(self.precision), get_args(Precision))
            raise RequestError(f"AutoAttack has no precision {self.precision!r}; {hint}")
        if self.processes is not None and self.processes < 1:
            raise RequestError(f"AutoAttack needs processes >= 1 or null, got {self.processes}")
        if self.graphs and self.version == "rand":
            raise RequestError("AutoAttack's version=rand is for models with random outputs, which graphs=true is not")
        if self.graphs and (self.processes or 1) > 1:
            raise RequestError(f"graphs=true is for CUDA and processes={self.processes} for CPUs: choose one of them")
        if self.only is not None and self.only not in self.members():
            hint = nearest(str(self.only), self.members())
            raise RequestError(f"version {self.version} of AutoAttack has no member {self.only!r}; {hint}")

    @property
    def black_box(self) -> bool:
        """Whether no gradient is asked for."""
        return all(getattr(member, "black_box", False) for member in self._chosen().values())

    def check_threat(self, threat: Threat) -> LpBall:
        """The threat, if it is an Lp ball."""
        return required(LpBall, threat, "AutoAttack needs an Lp threat (inf, 2 or 1)")

    def members(self, *, one_norm: bool = False) -> Mapping[str, Attack]:
        """The attacks that this version runs, by their usual names and in their order.

        Args:
            one_norm: whether the threat is of L1, for which the standard version has other settings.
        """
        size = self.batch_size
        restarts = 5 if self.version == "plus" or (one_norm and self.version == "standard") else 1
        # Only the standard version was tuned for L1; the others treat it as they treat the other norms.
        shrink = one_norm and self.version == "standard"
        eot = 20 if self.version == "rand" else 1
        ce = APGD(loss="ce", restarts=restarts, eot=eot, shrink_radius=shrink, batch_size=size)
        dlr = APGD(loss="dlr", restarts=restarts, eot=eot, batch_size=size)
        targeted = APGD(loss="dlr", targets=5 if shrink else 9, shrink_radius=shrink, batch_size=size)
        square = Square(batch_size=size)
        fab_t = FAB(targets=9, batch_size=size)
        if self.version == "rand":
            return {"apgd-ce": ce, "apgd-dlr": dlr}
        if self.version == "standard":
            return {"apgd-ce": ce, "apgd-t": targeted, "fab-t": fab_t, "square": square}
        fab = FAB(targets=None, restarts=5, batch_size=size)
        return {"apgd-ce": ce, "apgd-dlr": dlr, "fab": fab, "square": square, "apgd-t": targeted, "fab-t": fab_t}

    def _chosen(self, *, one_norm: bool = False) -> Mapping[str, Attack]:
        return {name: member for name, member in self.members(one_norm=one_norm).items() if self.only in (None, name)}

    def remarks(self, classes: int, threat: Threat) -> list[str]:
        """What is left out or done differently on a model with so few classes."""
        return [
            f"{name}: {remark}"
            for name, member in self._chosen(one_norm=self.check_threat(threat).p == 1).items()
            if isinstance(member, APGD | FAB)
            for remark in member.remarks(classes, threat)
        ]

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, *, generator: Generator | None = None
    ) -> Tensor:
        """Adversarial examples (N, ...) for `x` (N, ...) in [0, 1] with labels `y` (N,); `x` where none was found."""
        ball = self.check_threat(threat)
        capture = cuda_graphs(x.device) if self.graphs else None
        device = None if generator is None else generator.device
        seed = int(torch.randint(0, 2**62, (1,), generator=generator, device=device))
        with crafting(model, x, y) as (x, y):
            processes = self.processes or available_processes(x)
            own = Generator().manual_seed(seed)
            half: nn.Module = HalfPrecision(model)
            if capture is not None:
                model, half = (Captured(each, self.batch_size, capture) for each in (model, half))
            run = partial(self._run, half=half)
            if processes > 1 and len(x) > 1:
                return attack_in_processes(run, model, x, y, ball, generator=own, processes=min(processes, len(x)))
            return run(model, x, y, ball, generator=own)

    def _run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        half: nn.Module,
        generator: Generator | None = None,
    ) -> Tensor:
        result = x.clone()
        left = torch.cat([logits_of(model, part).argmax(dim=1) for part in torch.split(x, self.batch_size)]) == y
        for name, member in self.members(one_norm=getattr(threat, "p", None) == 1).items():
            # Drawn for each member whether it has work or not, so that nobody's numbers depend on the other examples.
            seed = int(torch.randint(0, 2**62, (1,), generator=generator))
            if self.only not in (None, name):
                continue
            index = left.nonzero().squeeze(1)
            if not len(index):
                break
            note(f"{name}, {len(index)} left")
            with keeping(lambda: result, index):
                if self.precision == "float32" or isinstance(member, FAB):
                    found = member(model, x[index], y[index], threat, generator=Generator().manual_seed(seed))
                else:
                    found = search_in_half_precision(
                        member, model, x[index], y[index], threat, seed=seed, batch_size=self.batch_size, half=half
                    )
            result[index] = found
            labels = [logits_of(model, part).argmax(dim=1) for part in torch.split(found, self.batch_size)]
            left[index] = torch.cat(labels) == y[index]
        result[left] = x[left]
        return result
