"""One call of an attack that nobody trusts: what it returns is read and checked, what it did to the model undone.

Foolbox and others return tuples, NumPy or float64, some leave the model in training mode: the first is put right where
there is but one way to read it, the second undone before anything is judged, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from robustml.calling import run_attack
from robustml.errors import RequestError, RunFailed
from robustml.evaluation.sanity.guard import Guard, RandomState
from robustml.results import Flag
from robustml.types import Attack, Threat


class Crafting:
    """Runs attacks on one model and remembers which of them did not leave it as it was.

    Args:
        model: in eval mode, its parameters frozen.
        device: where the images are.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model, self._device = model, device
        self._guard = Guard(model)
        self._by_itself: set[str] = set()
        self._draws = False
        self.flags: dict[tuple[str, str | None], Flag] = {}
        self._random = RandomState(device)

    def after_clean_pass(self) -> None:
        """Note what the model does to itself when it is asked: for that no attack is to blame."""
        self._draws = bool(self._random.moved())
        self._by_itself = set(self._guard.changes())
        if self._by_itself:
            self._guard.restore()
            message = (
                f"the model changes {', '.join(sorted(self._by_itself))} when it is asked, in eval mode too: what it "
                "answers depends on what it was asked before; it is put back before each batch"
            )
            self._flag(Flag(name="model_changes_itself", message=message))

    def restore(self) -> None:
        """Put the model back as it was found."""
        self._guard.restore()

    def __call__(
        self, name: str, attack: Attack, model: nn.Module, x: Tensor, y: Tensor, threat: Threat, generator: Generator
    ) -> Tensor:
        """What the attack makes of images `x` (N, ...) with labels `y` (N,): inside the threat, of the dtype of `x`.

        Args:
            name: for messages.
            attack: is shown copies.
            model: the guarded one, or one around it.
            x: floats.
            y: int64.
            threat: what it may do.
            generator: what it may draw from.

        Raises:
            RunFailed: it failed, or returned no images, or such as lie outside the threat.
        """
        random = RandomState(self._device)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                returned = run_attack(attack, model, x.clone(), y.clone(), threat, generator)
        except (RequestError, RunFailed):
            raise
        except torch.OutOfMemoryError as error:
            raise RunFailed(f"attack {name!r} ran out of memory on {len(x)} images: lower the batch size") from error
        except Exception as error:
            reason = " ".join(str(error).split())[:300] or "no reason given"
            raise RunFailed(f"attack {name!r} failed: {type(error).__name__}: {reason}") from error
        finally:
            self._look(name, random)
        x_adv = _images(name, returned, x)
        refuse_violation(name, x_adv, x, threat)
        return x_adv

    def _look(self, name: str, random: RandomState) -> None:
        if changed := self._guard.changes():
            self._guard.restore()
            if blamed := [what for what in changed if what not in self._by_itself]:
                message = (
                    f"{name} leaves the model changed: {', '.join(blamed)}; it was put back after each batch, before "
                    "anything was judged. Mend the attack (robustml check attack=... names what it leaves)"
                )
                self._flag(Flag(name="model_changed", message=message, attack=name))
        if random.moved():
            random.restore()
            if not self._draws:
                message = (
                    f"{name} draws from the global random generators or seeds them, so that its figures do not "
                    "follow from the seed of the evaluation; let it draw from the generator that it is given"
                )
                self._flag(Flag(name="global_random_state", message=message, attack=name))

    def _flag(self, flag: Flag) -> None:
        self.flags.setdefault((flag.name, flag.attack), flag)


def _images(name: str, returned: Any, x: Tensor) -> Tensor:
    """What an attack returned as a tensor like `x`: detached, of its dtype, on its device."""
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        alike = [each for each in returned if getattr(each, "shape", None) == x.shape]
        if len(alike) != 1:
            raise RunFailed(
                f"attack {name!r} returned a {type(returned).__name__} of {len(returned)}, in which {len(alike)} "
                "entries have the shape of the images; let it return the adversarial images alone"
            )
        returned = alike[0]
    if returned is None or isinstance(returned, str):
        raise RunFailed(f"attack {name!r} returned {returned!r}; expected images of shape {tuple(x.shape)}")
    try:
        x_adv = torch.as_tensor(returned)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RunFailed(f"attack {name!r} returned a {type(returned).__name__}; expected a tensor of images") from error
    if not x_adv.is_floating_point():
        raise RunFailed(f"attack {name!r} returned {x_adv.dtype}; expected floats in the range of the images")
    x_adv = x_adv.detach().to(device=x.device, dtype=x.dtype)
    return x_adv.clone() if x_adv.is_inference() else x_adv


def refuse_violation(name: str, x_adv: Tensor, x: Tensor, threat: Threat) -> None:
    """Refuse images that are not inside the threat.

    Raises:
        RunFailed: they have another shape, are not finite, or are too far from `x` or out of range.
    """
    if x_adv.shape != x.shape:
        raise RunFailed(f"attack {name!r} returned shape {tuple(x_adv.shape)} for images of shape {tuple(x.shape)}")
    if not x_adv.isfinite().all():
        raise RunFailed(f"attack {name!r} returned images that are not finite (NaN or infinity)")
    inside = threat.contains(x_adv, x)
    if inside.all():
        return
    excess = float((threat.distance(x_adv, x) - threat.eps).max())
    low, high = threat.bounds
    outside = float(torch.maximum(low - x_adv.min(), x_adv.max() - high))
    raise RunFailed(
        f"attack {name!r} left the threat model at eps={threat.eps:.6g} on {int((~inside).sum())} of {len(x)} images: "
        f"worst excess over eps={threat.eps:.6g} is {max(excess, 0):.3g}, over the image range {max(outside, 0):.3g}"
    )
