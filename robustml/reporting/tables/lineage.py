"""The lineage of a model as text: a step a paragraph, and a mark for each link."""

from __future__ import annotations

import textwrap

from robustml.errors import printable
from robustml.results.lineage import Lineage

MARKS = {True: "holds", False: "BROKEN", None: "not checked"}


def lineage_text(found: Lineage, width: int = 80) -> str:
    """A paragraph for each step, the earliest first."""
    paragraphs = []
    for step in found.steps:
        name = "" if step.name == step.kind else f": {printable(step.name)}"
        lines = [f"{step.kind}{name}"]
        rows = [*step.facts.items(), *((MARKS[link.holds], link.says) for link in step.links)]
        lines += [
            textwrap.fill(printable(text), width, initial_indent=f"  {label:<12} ", subsequent_indent=" " * 15)
            for label, text in rows
        ]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)
