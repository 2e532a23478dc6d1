"""From per-image verdicts to the figures of the results schema."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import Field, InstanceOf

from robustml.evaluation.verdicts import Verdicts
from robustml.results import (
    AttackResult,
    ClassResult,
    DataFacts,
    Examples,
    Flag,
    ModelFacts,
    Results,
    Robustness,
    WorstCase,
    share,
)
from robustml.results import Threat as Budget
from robustml.types import Threat


class RobustnessResults(Robustness):
    """Clean and adversarial accuracy of one model: what results.json holds, and beside it what no file does.

    Attributes:
        worst_case: what withstands all attacks; the clean accuracy where none was run.
        verdicts: what happened to each image, in the order of the loader.
        examples: attacked images for the report.
        identity: what was measured, by the fields of results.json: data, model, seed, environment.
    """

    worst_case: WorstCase
    verdicts: InstanceOf[Verdicts] = Field(exclude=True, repr=False)
    examples: InstanceOf[Examples] | None = Field(default=None, exclude=True, repr=False)
    identity: dict[str, Any] = Field(default_factory=dict, exclude=True, repr=False)

    def save(self, path: str | Path) -> Path:
        """Write results.json: to a file whose name ends in .json, or into a folder, with examples.npz beside it.

        Returns:
            The file.

        Raises:
            RequestError: the results do not pass the checks of the schema.
        """
        path = Path(path)
        if self.examples is not None and path.suffix != ".json":
            self.examples.save(path / "examples.npz")
        unknown = {
            "command": "evaluate",
            "experiment": path.stem,
            "seed": None,
            "data": DataFacts(name="data"),
            "model": ModelFacts(name="model"),
        }
        return Results.of(self, **unknown | self.identity).save(path)

    def report(self, path: str | Path) -> Path:
        """Write the page: to a file whose name ends in .html, or as report.html into a folder; returns the file."""
        from robustml.reporting import write_report

        path = Path(path)
        path = path if path.suffix == ".html" else path / "report.html"
        with TemporaryDirectory() as folder:
            self.save(Path(folder, path.stem))
            return write_report([Path(folder, path.stem)], path)

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
