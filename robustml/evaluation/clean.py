"""The first pass over the images: what the model takes each for when nobody attacks, and all that later passes need."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robustml.attacks.engine.gradient import logits_of
from robustml.errors import RequestError, RunFailed
from robustml.evaluation.batches import Batches
from robustml.evaluation.sample import Sample
from robustml.evaluation.sanity.budget import reach
from robustml.evaluation.verdicts import Verdicts
from robustml.models.fitted import fitted
from robustml.progress import track
from robustml.types import Threat

_SAMPLE = 200


@dataclass
class Clean:
    """What the first pass found.

    Attributes:
        model: the model, with around it what it needs to be judged (`robustml.models.fitted`).
        parts: verdicts without an attack, by the number of the batch.
        sample: a few images of each class.
        classes: how many logits the model gives; 0 where there was no image.
    """

    model: nn.Module
    parts: dict[int, Verdicts]
    sample: Sample
    classes: int


def clean_pass(model: nn.Module, batches: Batches, threat: Threat | None, seed: int) -> Clean:
    """Classify every image.

    Args:
        model: in eval mode.
        batches: walked through once.
        threat: whose reach is noted for each image; None where nothing will attack.
        seed: of the sample.

    Raises:
        RequestError: images outside [0, 1], labels that are not the model's classes, logits that are not finite, or a
            model that cannot take the images.
    """
    clean = Clean(model, {}, Sample(_SAMPLE, seed), 0)

    def right() -> str:
        correct = sum(int(part.correct.sum()) for part in clean.parts.values())
        return f"{100 * correct / max(1, sum(len(part.y) for part in clean.parts.values())):.1f}% right"

    for batch in track(batches, "clean", right):
        x, y = batch.x, batch.y
        low, high = float(x.min()), float(x.max())
        if not (low >= -1e-6 and high <= 1 + 1e-6):
            raise RequestError(
                f"images must be in [0, 1], got values from {low:.4g} to {high:.4g}: divide by 255, and normalise "
                "inside the model (robustml.models.Normalize) instead of in the data"
            )
        if not clean.parts:
            clean.model = fitted(model, x[:2])
        logits = _logits(clean.model, x, batch.number)
        clean.classes = logits.shape[1]
        if int(y.min()) < 0 or int(y.max()) >= clean.classes:
            raise RequestError(
                f"labels must be in 0..{clean.classes - 1}, the model's classes; got {int(y.min())} to {int(y.max())}"
            )
        prediction = logits.argmax(dim=1)
        reached = None if threat is None else reach(x, threat)
        clean.sample.add(batch, prediction)
        clean.parts[batch.number] = Verdicts(
            y.cpu().numpy(),
            prediction.cpu().numpy(),
            {},
            images=batch.images,
            ids=batch.ids,
            reach=None if reached is None else reached.cpu().numpy(),
        )
    return clean


def _logits(model: nn.Module, x: Tensor, index: int) -> Tensor:
    try:
        with torch.no_grad():
            logits = logits_of(model, x)
    except (RequestError, RunFailed):
        raise
    except torch.OutOfMemoryError as error:
        raise RunFailed(f"the model ran out of memory on a batch of {len(x)} images: lower the batch size") from error
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RequestError(
            f"the model fails on batch {index}, {len(x)} images of shape {tuple(x.shape[1:])}: {reason}"
        ) from error
    if not logits.isfinite().all():
        raise RequestError("the model returns logits that are not finite (NaN or infinity) on clean images")
    return logits
