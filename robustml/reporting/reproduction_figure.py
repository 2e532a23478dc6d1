"""The health of a paper's variants side by side: where single-step training collapses, and what prevents it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D

from robustml.errors import printable
from robustml.reporting.figures import BLUE, GREY, INK, VERMILLION, as_svg, new_figure, styled
from robustml.reporting.health import draw_health, mark_collapse

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["health_figure", "standalone"]

BESIDE = 3


def health_figure(health: Mapping[tuple[str, int], pd.DataFrame]) -> str:
    """FGSM and PGD accuracy above gradient alignment, over the steps of training; a column a variant.

    Args:
        health: health.csv by variant and seed. The first seed of a variant is drawn broad, the others thin; the first
            measurement of each that was not healthy is marked.

    Returns:
        An SVG element; "" without any.
    """
    variants = list(dict.fromkeys(variant for variant, _ in health))
    if not variants:
        return ""
    columns = min(BESIDE, len(variants))
    blocks = -(-len(variants) // BESIDE)
    highest = max(table[["fgsm_accuracy", "pgd_accuracy"]].max().max() for table in health.values())
    with styled():
        drawing = new_figure(960, 30 + 440 * blocks)
        axes = drawing.subplots(2 * blocks, columns, sharex=True, sharey="row", squeeze=False)
        for place in range(blocks * columns):
            block, column = divmod(place, columns)
            above, below = axes[2 * block][column], axes[2 * block + 1][column]
            if place >= len(variants):
                above.set_visible(False)
                below.set_visible(False)
                continue
            runs = {seed: table for (variant, seed), table in health.items() if variant == variants[place]}
            for order, table in enumerate(runs.values()):
                draw_health(above, below, table, linewidth=0.7 if order else 1.8)
                for step in table.loc[table["healthy"] == 0, "step"].head(1):
                    mark_collapse(above, step)
                    mark_collapse(below, step)
            seeds = f"seed{'s' * (len(runs) > 1)} {', '.join(map(str, runs))}"
            above.set_title(printable(f"{variants[place]}, {seeds}"))
            # Shared axes: small networks stay far below 100%, and all variants are seen on one scale.
            above.set_ylim(top=min(1.03, max(1.1 * highest, 0.3)))
            below.set_xlabel("step")
            below.tick_params(labelbottom=True)  # shared axes write their steps in the last row only
            if column == 0:
                above.set_ylabel("accuracy")
                below.set_ylabel("gradient alignment")
        handles = [
            Line2D([], [], color=BLUE, label="FGSM"),
            Line2D([], [], color=VERMILLION, label="short PGD"),
            Line2D([], [], color=INK, label="mean cosine"),
            Line2D([], [], color=GREY, linestyle=":", label="first collapse of a seed"),
        ]
        drawing.legend(handles=handles, loc="outside upper left", ncols=len(handles), fontsize=10)
        return as_svg(
            drawing,
            "Accuracy under FGSM and under PGD, and gradient alignment, by step of training: " + ", ".join(variants),
        )


def standalone(svg: str) -> str:
    """The figure as a file of its own, on white whatever the page around it."""
    return svg.replace("<svg ", '<svg style="background:#fff" ', 1) + "\n"
