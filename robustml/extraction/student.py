"""Train the copy: fit a fresh model to the answers of another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from robustml.errors import RequestError
from robustml.extraction.method import MakeStudent
from robustml.progress import track


@dataclass(frozen=True)
class StudentTraining:
    """Adam on the cross-entropy with the answers, the learning rate falling linearly to 0.

    Args:
        steps: batches in all, whatever the number of queries, so that points of a curve compare.
        batch_size: queries a batch, each used once before any is used again.
        learning_rate: of the first batch.

    Raises:
        RequestError: a setting that is not above 0.
    """

    steps: int = 600
    batch_size: int = 64
    learning_rate: float = 0.003

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise RequestError(f"training.{name} must be above 0, got {getattr(self, name)}")

    def __call__(
        self, make_student: MakeStudent, x: Tensor, targets: Tensor, *, generator: Generator | None = None
    ) -> nn.Module:
        """A copy in eval mode, on the device of the queries.

        Args:
            make_student: gives the model to train, images (N, ...) in [0, 1] to logits (N, C).
            x: queries (N, ...).
            targets: probabilities (N, C).
            generator: draws the initial weights, the order and dropout; the global one if None. The global state is
                otherwise left as it was.
        """
        seed = int(torch.randint(0, 2**62, (1,), generator=generator))
        devices = [x.device] if x.device.type == "cuda" else []
        with torch.random.fork_rng(devices), torch.inference_mode(False), torch.enable_grad():
            torch.manual_seed(seed)
            student = make_student().to(x.device).train()
            optimizer = torch.optim.Adam(student.parameters(), lr=self.learning_rate)
            order = torch.empty(0, dtype=torch.int64)
            for step in track(range(self.steps), "training the copy"):
                if not len(order):
                    order = torch.randperm(len(x))
                chosen, order = order[: self.batch_size].to(x.device), order[self.batch_size :]
                for group in optimizer.param_groups:
                    group["lr"] = self.learning_rate * (1 - step / self.steps)
                optimizer.zero_grad()
                torch.autograd.backward(functional.cross_entropy(student(x[chosen]), targets[chosen].float()))
                optimizer.step()
        return student.eval()
