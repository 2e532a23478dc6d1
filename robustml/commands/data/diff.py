"""`robustml data diff old=<manifest> new=<manifest>`: what became of a set, which records, and who signed for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked, Count
from robustml.commands.hydra.entry import hydra_command
from robustml.say import say

if TYPE_CHECKING:
    from omegaconf import DictConfig


class DataDiff(Asked):
    """What the config must hold."""

    old: str = ""
    new: str | None = None
    trust: str | None = None
    out: str | None = None
    most: Count = 1


def diff(config: DictConfig) -> None:
    """Compare two manifests, or a manifest with the set at hand."""
    from robustml.commands.hydra.composing import plain
    from robustml.reporting.pages.integrity import check_out, write_comparison
    from robustml.reporting.tables.integrity import change_lines, compared_line, sides_text
    from robustml.workflows.integrity.diff import diff_data, pictures_of
    from robustml.workflows.preparing import described_data

    settings = plain(config)
    out = check_out(None if settings["out"] is None else Path(settings["out"]))
    data = None if settings.get("data") is None else described_data(settings["data"])
    source = None if data is None else data.source
    found = diff_data(settings["old"], settings["new"], source, trust=settings["trust"])
    if out is not None:
        write_comparison(found, out, {} if source is None else pictures_of(found, source))
    say(sides_text(found))
    for line in [*change_lines(found, settings["most"], settings["out"]), compared_line(found)]:
        say(line)


def main() -> None:
    """Compose data_diff.yaml."""
    hydra_command(diff, "data_diff", DataDiff)


if __name__ == "__main__":
    main()
