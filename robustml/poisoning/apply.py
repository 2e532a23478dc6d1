"""Poison the training part of a DataModule, between decoding and batching."""

from __future__ import annotations

from robustml.data import DataModule
from robustml.poisoning.chain import Chain, kind_of, rate_of
from robustml.poisoning.manifest import Manifest, compare
from robustml.poisoning.poison import Backdoor, Poison

__all__ = ["backdoor_of", "poison_training"]


def poison_training(data: DataModule, poison: Poison, *, seed: int) -> Manifest:
    """Replace the training part by the poisoned one; the fingerprint and `data.summary()` then tell of it.

    The validation part stays clean, so that runs with and without poison are selected alike, unless the poison says
    ``poisons_validation``: some attacks assume that the attacker reaches everything that was collected.

    Args:
        data: set up or not.
        poison: what to do.
        seed: which rows, and whatever else is drawn.

    Returns:
        The manifest of the training part.

    Raises:
        RequestError: the poison does not fit the data, or changes nothing.
    """
    data.setup()
    clean = data.train
    poisoned = poison(clean, seed=seed)
    backdoor = isinstance(poison, Backdoor)
    manifest = compare(clean, poisoned, kind_of(poison), rate_of(poison), backdoor=backdoor)
    for dose in manifest.parts or (manifest.dose,):
        dose.check()
    data.train = poisoned.data
    far_reaching = _reaching_validation(poison)
    if data.val is not None and far_reaching is not None:
        data.val = far_reaching(data.val, seed=seed).data
    data.poison = manifest.summary()
    return manifest


def backdoor_of(poison: Poison | None) -> Backdoor | None:
    """The backdoor that a poison plants, if it plants one."""
    if isinstance(poison, Chain):
        return poison.backdoor
    return poison if isinstance(poison, Backdoor) else None


def _reaching_validation(poison: Poison) -> Poison | None:
    """The poison, or those of a chain, that say they reach the validation part too."""
    if isinstance(poison, Chain):
        parts = {name: part for name, part in poison.poisons.items() if _reaching_validation(part) is not None}
        return Chain(parts) if parts else None
    return poison if getattr(poison, "poisons_validation", False) else None
