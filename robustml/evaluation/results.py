"""From per-image verdicts to the figures of the results schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field, InstanceOf

from robustml.evaluation.verdicts import Verdicts
from robustml.results import AttackResult, ClassResult, Examples, Flag, Robustness, WorstCase, share
from robustml.results import Threat as Budget
from robustml.types import Threat


class RobustnessResults(Robustness):
    """Clean and adversarial accuracy of one model: what results.json holds, and beside it what no file does.

    Attributes:
        worst_case: what withstands all attacks; the clean accuracy where none was run.
        verdicts: what happened to each image, in the order of the loader.
        examples: attacked images for the report.
    """

    worst_case: WorstCase
    verdicts: InstanceOf[Verdicts] = Field(exclude=True, repr=False)
    examples: InstanceOf[Examples] | None = Field(default=None, exclude=True, repr=False)

    @classmethod
    def of(
        cls,
        verdicts: Verdicts,
        threat: Threat | Budget,
        flags: Sequence[Flag] = (),
        examples: Examples | None = None,
        class_names: Sequence[str] | None = None,
        searched: Sequence[str] = (),
        **blocks: Any,
    ) -> RobustnessResults:
        """Count the verdicts.

        Args:
            verdicts: of all images, at least one.
            threat: what the attacker was allowed to do.
            flags: reasons to doubt the figures.
            examples: attacked images.
            class_names: "0", "1", ... by default.
            searched: what else of the run counts in the worst case, by name (`robustml.evaluation.worst_case`).
            blocks: fields that other measurements fill, such as `curve`.
        """
        names = tuple(class_names) if class_names else tuple(str(label) for label in range(int(verdicts.y.max()) + 1))
        correct, worst_case = verdicts.correct, verdicts.worst_case
        members = [verdicts.y == label for label in range(len(names))]
        return cls(
            threat=Budget.of(threat),
            clean_accuracy=share(correct),
            attacks={
                name: AttackResult(
                    robust_accuracy=share(attack.robust),
                    rounded_accuracy=share(attack.rounded),
                    max_norm=float(attack.distance.max(initial=0.0)),
                    pending=attack.pending,
                    seconds=attack.seconds,
                    params=attack.params,
                )
                for name, attack in verdicts.attacks.items()
            },
            worst_case=WorstCase(robust_accuracy=share(worst_case), attacks=[*verdicts.attacks, *searched]),
            complete=verdicts.complete,
            per_class=[
                ClassResult(
                    label=label,
                    name=name,
                    n=int(which.sum()),
                    clean_accuracy=share(correct[which]),
                    robust_accuracy=share(worst_case[which]),
                )
                for label, (name, which) in enumerate(zip(names, members, strict=True))
            ],
            flags=list(flags),
            verdicts=verdicts,
            examples=examples,
            **blocks,
        )
