"""Notice catastrophic overfitting while it happens, and warn, stop, or roll back and go on with smaller attack steps.

Wong, Rice and Kolter, "Fast is better than free: revisiting adversarial training", ICLR 2020, arXiv:2001.03994, whose
code stops when the PGD accuracy on a training batch drops by more than .2 from one epoch to the next. Deviations: the
drop is from the best so far, which a slow fall does not escape; half of the best is enough where that is less (the
single-layer network of Andriushchenko and Flammarion, arXiv:2007.02617, falls from .19 to 0); and FGSM accuracy must
be far above, without which early training was seen to look like a collapse on MNIST. The best is at least what naming
one class for all would reach, so that a model that never withstood PGD is told too. And several measurements in a row
must agree: Wong's MNIST recipe was seen to fall from .75 to .07 and to be back at .84 after 250 steps. Rolling back is
ours.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Generator, Tensor

from robustml.errors import RequestError
from robustml.files import write_text
from robustml.objectives.labels import classes_of
from robustml.training.attack_changes import with_attack, with_smaller_steps
from robustml.training.batches import images_and_labels
from robustml.training.callbacks.table import read_table
from robustml.training.classifier import RobustClassifier, derived_seed
from robustml.training.health import Health, measure_health
from robustml.types import Attack, Objective, Threat

HEALTH = "health.csv"
COLUMNS = ("epoch", "step", *Health._fields, "healthy", "action")

Action = Literal["warn", "stop", "rollback"]


class CatastrophicOverfitting(pl.Callback):
    """Compare FGSM with a short PGD on a training batch every so often; write health.csv into the run directory.

    The batch at hand is measured after the step on it, every `every_n_steps` steps and after the last one of an epoch.
    A measurement costs about as much as seven steps of FGSM training, so that 250 keep it under 3% wherever epochs are
    as long. Nothing that training draws or holds is touched. In several processes the first one measures.

    With ``stop`` and ``rollback`` the weights and the optimizer's state of the last healthy measurement are kept (in
    main memory) and put back; the learning-rate schedule goes on, for the number of steps of the run stays. Averages
    of weights (EMA, SWA) keep what they have taken in meanwhile.

    Args:
        action: ``"warn"``: say so, and flag the results; ``"stop"``: end training with the last healthy weights;
            ``"rollback"``: go back to them, and train on with smaller attack steps.
        every_n_steps: how often.
        after_steps: measure, but do not judge, before that many steps.
        steps: of PGD.
        drop: a collapse is a fall of PGD accuracy by more than this below the best so far, or by more than half of it,
        gap: together with an FGSM accuracy above PGD accuracy by more than this, or by 2.5 times this alone,
        patience: in so many measurements in a row.
        factor: by which each rollback multiplies the attack's step.
        extra_steps: how many steps each rollback adds to the attack's; where a smaller step alone does not help.
        max_rollbacks: stop at the collapse after that many.
        say: prints a line.
        threat: of the measurement; that of the training if None. Where a schedule lets eps grow only slowly to that,
            give `after_steps`.

    Raises:
        RequestError: an unknown action, or a value outside its range.
    """

    def __init__(
        self,
        action: Action = "warn",
        every_n_steps: int = 250,
        after_steps: int = 0,
        steps: int = 10,
        drop: float = 0.2,
        gap: float = 0.3,
        patience: int = 3,
        factor: float = 0.5,
        extra_steps: int = 0,
        max_rollbacks: int = 3,
        say: Callable[[str], None] = print,
        threat: Threat | None = None,
    ) -> None:
        if action not in ("warn", "stop", "rollback"):
            raise RequestError(f"action={action!r} is unknown; expected warn, stop or rollback")
        if min(every_n_steps, steps, patience) < 1 or max_rollbacks < 0 or extra_steps < 0:
            raise RequestError(
                f"expected every_n_steps, steps and patience >= 1, max_rollbacks and extra_steps >= 0, got "
                f"{every_n_steps}, {steps}, {patience}, {max_rollbacks} and {extra_steps}"
            )
        if not (0 < drop <= 1 and 0 < gap <= 1 and 0 < factor <= 1):
            raise RequestError(f"drop, gap and factor must be in (0, 1], got {drop}, {gap} and {factor}")
        self.threat = threat
        self.action = action
        self.every_n_steps = every_n_steps
        self.after_steps = after_steps
        self.steps = steps
        self.drop = drop
        self.gap = gap
        self.patience = patience
        self.factor = factor
        self.extra_steps = extra_steps
        self.max_rollbacks = max_rollbacks
        self.say = say
        self.best = 0.0
        self.rollbacks = 0
        self._ailing = 0  # measurements in a row
        self._warned = False
        self._stopped = False
        self._rows: list[dict[str, Any]] = []
        self._healthy: dict[str, Any] | None = None
        self._healthy_step = 0
        self._moved = False
        self._found: Objective | None = None
        self._changed: Objective | None = None
        self._changed_for = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse now what could not be done later; a run that this callback had stopped stays so."""
        if self.action == "rollback":
            with_attack(_classifier(pl_module).objective, self._with_smaller_steps)
        if self._stopped and self.action != "warn":
            trainer.should_stop = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the rows of an interrupted run; what it resumes from is healthy, or is in the checkpoint."""
        path = Path(trainer.default_root_dir, HEALTH)
        if path.exists():
            rows = read_table(path, ("step", "epoch"), texts=("action",))
            self._rows = [row for row in rows if float(row["step"]) <= trainer.global_step]
        if self._healthy is None:
            self._keep(trainer, pl_module, self._healthy_step)

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """Train with the smaller steps after a rollback, also where another callback has put in a new one."""
        self._moved = True
        if not self.rollbacks:
            return
        module = _classifier(pl_module)
        if module.objective is not self._changed:
            self._found, self._changed = module.objective, None
        if self._changed is None or self._changed_for != self.rollbacks:
            assert self._found is not None
            self._changed = module.objective = with_attack(self._found, self._with_smaller_steps)
            self._changed_for = self.rollbacks

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if it is this step's turn, and act."""
        if trainer.global_step % self.every_n_steps and not trainer.is_last_batch:
            return
        health = self._measure(trainer, _classifier(pl_module), *images_and_labels(batch))
        healthy = trainer.global_step < self.after_steps or not self.collapsed(health)
        self._ailing = 0 if healthy else self._ailing + 1
        action = self._act(trainer, pl_module, health) if self._ailing >= self.patience else ""
        if healthy:
            self.best = max(self.best, health.pgd_accuracy)
            self._keep(trainer, pl_module, trainer.global_step)
        figures = {name: "" if math.isnan(value) else round(value, 6) for name, value in health._asdict().items()}
        place = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step}
        self._rows.append({**place, **figures, "healthy": int(healthy), "action": action})
        if trainer.is_global_zero:
            self._write(Path(trainer.default_root_dir, HEALTH))

    def collapsed(self, health: Health) -> bool:
        """Whether a measurement tells of a collapse, after the best PGD accuracy so far.

        Early in training PGD accuracy moves up and down, and is far below that under FGSM, without any harm: only
        together do the two mean something, or a gap so wide that there is next to nothing left to fall. Trainings on
        MNIST that went well were seen with gaps of .67 for a while, and collapsed ones with .73 to .96.
        """
        best = max(self.best, health.constant_accuracy)
        fallen = best - health.pgd_accuracy > min(self.drop, best / 2)
        apart = health.fgsm_accuracy - health.pgd_accuracy
        return (fallen and apart > self.gap) or apart > 2.5 * self.gap

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs; the healthy state itself only where it is not that of the checkpoint."""
        return {
            "best": self.best,
            "rollbacks": self.rollbacks,
            "ailing": self._ailing,
            "warned": self._warned,
            "stopped": self._stopped,
            "healthy_step": self._healthy_step,
            "healthy": self._healthy if self._moved else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint stood."""
        self.best = state_dict["best"]
        self.rollbacks = state_dict["rollbacks"]
        self._ailing = state_dict["ailing"]
        self._warned = state_dict["warned"]
        self._stopped = state_dict["stopped"]
        self._healthy_step = state_dict["healthy_step"]
        self._healthy = state_dict["healthy"]

    def _measure(self, trainer: pl.Trainer, module: RobustClassifier, x: Tensor, y: Tensor) -> Health:
        figures: tuple[float, ...] = ()
        if trainer.is_global_zero:
            generator = Generator().manual_seed(derived_seed(module.seed, trainer.global_step))
            threat = module.threat if self.threat is None else self.threat
            figures = measure_health(module.model, x, classes_of(y), threat, self.steps, generator)
        # One process decides, and all act alike.
        health = Health(*trainer.strategy.broadcast(figures))
        for name, value in health._asdict().items():
            module.log(f"health/{name}", value, on_step=True, on_epoch=False)
        return health

    def _act(self, trainer: pl.Trainer, pl_module: pl.LightningModule, health: Health) -> Action:
        action: Action = self.action
        if action == "rollback" and self.rollbacks == self.max_rollbacks:
            action = "stop"
        if action == "warn":
            if self._warned:
                return action
            self._warned = True
            done = "training goes on"
        elif action == "stop":
            self._stopped = trainer.should_stop = True
            done = "training stops; there are no healthy weights to go back to"
            if self._healthy_step:
                self._put_back(trainer, pl_module)
                done = f"training stops with the weights of step {self._healthy_step}"
        else:
            self._put_back(trainer, pl_module)
            self.rollbacks += 1
            self._ailing = 0
            done = (
                f"back to the weights of step {self._healthy_step} with smaller attack steps "
                f"(rollback {self.rollbacks} of at most {self.max_rollbacks})"
            )
        if trainer.is_global_zero:
            self.say(
                f"catastrophic overfitting at step {trainer.global_step} (epoch {trainer.current_epoch + 1}): on a "
                f"training batch {health.fgsm_accuracy:.1%} withstand FGSM and {health.pgd_accuracy:.1%} "
                f"PGD-{self.steps} (best so far {self.best:.1%}), gradient alignment "
                f"{health.gradient_alignment:.2f}; {done}"
            )
        return action

    def _with_smaller_steps(self, attack: Attack) -> Attack:
        return with_smaller_steps(attack, self.factor**self.rollbacks, self.extra_steps * self.rollbacks)

    def _keep(self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: int) -> None:
        if self.action == "warn":
            return
        states = [optimizer.state_dict()["state"] for optimizer in trainer.optimizers]
        self._healthy = _copied({"model": _classifier(pl_module).model.state_dict(), "optimizers": states})
        self._healthy_step, self._moved = step, False

    def _put_back(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # A copy: optimizers take over the tensors that they are given, and would change what is kept.
        healthy = _copied(self._healthy)
        _classifier(pl_module).model.load_state_dict(healthy["model"])
        for optimizer, state in zip(trainer.optimizers, healthy["optimizers"], strict=True):
            # The parameter groups stay: they hold the rate at which the schedule has arrived.
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        self._moved = False

    def _write(self, path: Path) -> None:
        text = io.StringIO(newline="")
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows)
        write_text(path, text.getvalue())


def _classifier(pl_module: pl.LightningModule) -> RobustClassifier:
    if not isinstance(pl_module, RobustClassifier):
        raise RequestError(f"CatastrophicOverfitting watches a RobustClassifier, got {type(pl_module).__name__}")
    return pl_module


def _copied(state: Any) -> Any:
    with torch.no_grad():
        return apply_to_collection(state, Tensor, lambda tensor: tensor.detach().to("cpu", copy=True))
