"""`robustml poison data=... poison=... out=<dir>`: write a poisoned set with its manifest, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.entry import argument, hydra_command, report_failures
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

__all__ = ["main", "poison"]


def poison(config: DictConfig) -> None:
    """Poison the training part, and write both parts, the manifest and a picture of what changed."""
    from omegaconf import open_dict

    from robustml.commands.parts import build_data, say
    from robustml.commands.poisoned import poison_as_configured, write_grid
    from robustml.commands.quiet import quiet
    from robustml.commands.settings import plain
    from robustml.poisoning.files import write_poisoned_set

    quiet()
    out = Path(config.out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"out={out} exists already: choose another folder")
    with open_dict(config):
        config.data.val_size = 0
    data = build_data(config)
    poisoning = poison_as_configured(data, plain(config))
    if poisoning is None or poisoning.manifest is None:
        raise RequestError("robustml poison needs a poison: choose one of the group, such as poison=badnets")
    out.mkdir(parents=True, exist_ok=True)
    write_poisoned_set(data.train, data.test, poisoning.manifest, out)
    write_grid(poisoning.manifest, out / "grid.png")
    say(f"wrote {len(data.train):,} training and {len(data.test):,} test records, and manifest.jsonl")
    say(f"run: {out}")


def restore() -> None:
    """Rebuild the clean training set of `restore=<dir>` into the file `out`."""
    from robustml.poisoning.files import restored_set, write_set

    out = argument("out")
    if out is None:
        raise RequestError("robustml poison restore=<dir> needs out=<file.parquet>")
    if Path(out).exists():
        raise RequestError(f"out={out} exists already: choose another file")
    clean = restored_set(Path(str(argument("restore"))))
    write_set(clean, Path(out))
    print(f"restored {len(clean):,} clean records, every digest as in the manifest: {out}")


def main() -> None:
    """Restore where asked to, else compose poison_data.yaml."""
    if argument("restore") is not None:
        report_failures(restore)
        return
    hydra_command(poison, "poison_data")


if __name__ == "__main__":
    main()
