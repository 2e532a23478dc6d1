"""What a logger of wandb's gets beside figures: the table of attacks, attacked pictures and the report."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning.loggers import Logger, WandbLogger

from robustml.reporting.formats import plain
from robustml.reporting.tables.run import attack_table
from robustml.results import Examples
from robustml.workflows.run import REPORT


def show(logger: Logger, run: Path) -> None:
    """Log table, pictures and report of a finished run; a logger of another kind is left alone."""
    if not isinstance(logger, WandbLogger):
        return
    import wandb  # takes a second, and few runs use it

    from robustml.reporting import read_run, write_report

    found = read_run(run)
    media: dict[str, object] = {
        "report": wandb.Html(write_report([run], run / REPORT).read_text(encoding="utf-8"), inject=False)
    }
    if found.results.attacks:
        table = attack_table(found.results)
        rows: list[Iterable[str]] = [
            [" ".join(filter(None, (cell.text, plain(cell.chips or "")))) for cell in row] for row in table.cells
        ]
        media["attacks"] = wandb.Table(columns=[head.text for head in table.heads], data=rows)
    if found.examples is not None and found.examples.images:
        pictures = _pictures(found.examples)
        media["pictures"] = [wandb.Image(pixels, caption=caption) for pixels, caption in pictures]
    logger.experiment.log(media)


def _pictures(examples: Examples) -> Iterator[tuple[NDArray[np.uint8], str]]:
    """Each image (H, 2W, C), 0 to 255, beside its attacked version, and what the model made of both."""
    for place, pair in enumerate(zip(examples.x, examples.x_adv, strict=True)):
        both = np.concatenate(pair, axis=-1)
        shown = both if len(both) == 3 else both.mean(axis=0, keepdims=True)
        before, after = (int(labels[place]) for labels in (examples.prediction, examples.adversarial_prediction))
        attack = examples.attacks[place] if examples.attacks else examples.attack
        yield (
            (255 * shown).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0),
            (f"{examples.name(before)} → {examples.name(after)}, {attack}"),
        )
