"""From per-image verdicts to the figures of the results schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from robustml.evaluation.certification.certify import CertifiedResults
from robustml.evaluation.corruption import CorruptionResults
from robustml.evaluation.examples import Examples
from robustml.evaluation.sanity.model import Flag
from robustml.evaluation.verdicts import Bools, Verdicts
from robustml.results import Rate, rate
from robustml.types import Threat

__all__ = ["RobustnessResults", "summarise"]


@dataclass
class RobustnessResults:
    """Clean and adversarial accuracy of one model, with 95% Wilson intervals.

    Attributes:
        verdicts: what happened to each image, in the order of the loader.
        threat: what the attacker was allowed to do.
        flags: reasons to doubt the figures.
        examples: attacked images for the report.
        class_names: names of the classes.
        corruptions: accuracy under common corruptions, where it was asked for.
        certified: certificates, where they were asked for.
        searched: what else of the run counts in the worst case, by name (`robustml.evaluation.worst_case`).
    """

    verdicts: Verdicts
    threat: Threat
    flags: list[Flag]
    examples: Examples | None
    class_names: tuple[str, ...]
    corruptions: CorruptionResults | None = None
    certified: CertifiedResults | None = None
    searched: tuple[str, ...] = ()

    @property
    def clean_accuracy(self) -> Rate:
        """Share of images that are classified correctly when nobody attacks."""
        return _share(self.verdicts.correct)

    @property
    def worst_case(self) -> Rate:
        """Share of images that withstand all attacks; the clean accuracy where none was run."""
        return _share(self.verdicts.worst_case)

    def robust_accuracy(self, attack: str) -> Rate:
        """Share of images that are classified correctly, and still are after this attack."""
        return _share(self.verdicts.attacks[attack].robust)

    def to_dict(self) -> dict[str, Any]:
        """The part of results.json that an evaluation fills, as plain values."""
        return {
            "threat": {"norm": getattr(self.threat, "norm", type(self.threat).__name__), "eps": self.threat.eps},
            "clean_accuracy": self.clean_accuracy.model_dump(),
            "attacks": {
                name: {
                    "robust_accuracy": self.robust_accuracy(name).model_dump(),
                    "rounded_accuracy": _share(attack.rounded).model_dump(),
                    "max_norm": float(attack.distance.max(initial=0.0)),
                    "pending": attack.pending,
                    "seconds": attack.seconds,
                    "params": attack.params,
                }
                for name, attack in self.verdicts.attacks.items()
            },
            "worst_case": {
                "robust_accuracy": self.worst_case.model_dump(),
                "attacks": [*self.verdicts.attacks, *self.searched],
            },
            "complete": self.verdicts.complete,
            "per_class": self._per_class(),
            "corruptions": None if self.corruptions is None else self.corruptions.to_dict(),
            "certified": None if self.certified is None else self.certified.to_dict(),
            "flags": [{"name": flag.name, "attack": flag.attack, "message": flag.message} for flag in self.flags],
        }

    def _per_class(self) -> list[dict[str, Any]]:
        correct, worst_case = self.verdicts.correct, self.verdicts.worst_case
        rows = []
        for label, name in enumerate(self.class_names):
            members = self.verdicts.y == label
            rows.append(
                {
                    "label": label,
                    "name": name,
                    "n": int(members.sum()),
                    "clean_accuracy": _share(correct[members]).model_dump(),
                    "robust_accuracy": _share(worst_case[members]).model_dump(),
                }
            )
        return rows


def summarise(
    verdicts: Verdicts,
    threat: Threat,
    flags: list[Flag],
    examples: Examples | None,
    class_names: Sequence[str] | None,
) -> RobustnessResults:
    """Name the classes and put the parts together."""
    names = tuple(class_names) if class_names else tuple(str(label) for label in range(int(verdicts.y.max()) + 1))
    return RobustnessResults(verdicts, threat, flags, examples, names)


def _share(which: Bools) -> Rate:
    return rate(int(which.sum()), len(which))
