"""`robustml poison data=... poison=... out=<dir>`: write a poisoned set with its plan, for use elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustml.commands.failures import report_failures
from robustml.commands.hydra.entry import hydra_command
from robustml.commands.hydra.words import argument
from robustml.errors import RequestError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from robustml.data import DataModule

__all__ = ["main", "poison"]

CONFIG = "config.yaml"


def poison(config: DictConfig) -> None:
    """Poison the training part, and write both parts, the plan and a picture of what changed.

    The settings are written first and the plan last. A folder that has the same settings and no plan is of the
    same command, which was interrupted: it is written anew. One that is complete is left as it is.
    """
    from omegaconf import open_dict

    from robustml.commands.hydra.composing import build_data, plain
    from robustml.poisoning.files import PLAN, write_poisoned_set
    from robustml.say import say
    from robustml.workflows.poisoning import poison_as_configured, write_grid
    from robustml.workflows.settings import write_settings

    out = Path(config.out)
    _check_free(out)
    with open_dict(config):
        config.data.val_size = 0
    data = build_data(config)
    settings = plain(config)
    if _is_there(out, settings, data):
        say(f"{out} holds this poisoned set already, complete with its {PLAN}")
        say(f"run: {out}")
        return
    poisoning = poison_as_configured(data, settings)
    if poisoning is None:
        raise RequestError("robustml poison needs a poison: choose one of the group, such as poison=badnets")
    write_settings(settings, out / CONFIG)
    write_grid(poisoning.plan, out / "grid.png")
    write_poisoned_set(data.train, data.test, poisoning.plan, out)
    say(f"wrote {len(data.train):,} training and {len(data.test):,} test records, and {PLAN}")
    say(f"run: {out}")


def _check_free(out: Path) -> None:
    """Refuse a folder that holds anything but what an earlier call of this command began.

    Raises:
        RequestError: it is no folder, or somebody else's.
    """
    from robustml.files import sweep

    if not out.exists():
        return
    if not out.is_dir():
        raise RequestError(f"out={out} exists already and is no folder: choose another one")
    sweep(out)
    if any(out.iterdir()) and not (out / CONFIG).is_file():
        raise RequestError(f"out={out} exists already and holds something else: choose another folder")


def _is_there(out: Path, settings: dict[str, Any], data: DataModule) -> bool:
    """Whether the folder holds the set complete.

    Raises:
        RequestError: it is of other settings, or of other data.
    """
    import yaml

    from robustml.files import read_text
    from robustml.poisoning.files import PLAN
    from robustml.poisoning.plan_file import read_plan_of_set

    if not (out / CONFIG).is_file():
        return False
    try:
        before = dict(yaml.safe_load(read_text(out / CONFIG)))  # compared, never built
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise RequestError(f"out={out} holds a {CONFIG} that cannot be read: choose another folder") from error
    if differing := sorted(key for key in {*before, *settings} - {"out"} if before.get(key) != settings.get(key)):
        raise RequestError(
            f"out={out} exists already, of another command: {', '.join(differing)} differ: choose another folder"
        )
    if not (out / PLAN).is_file():
        return False
    plan, test_sha256 = read_plan_of_set(out / PLAN)
    if (plan.clean_sha256, test_sha256) != (data.train.fingerprint(), data.test.fingerprint()):
        raise RequestError(f"out={out} exists already, of other data than {data.name} is now: choose another folder")
    return True


def restore() -> None:
    """Rebuild the clean training set of `restore=<dir>` into the file `out`."""
    from robustml.poisoning.files import restored_set, write_set
    from robustml.workflows.version_0_1 import is_old_set, restored_old_set

    out = argument("out")
    if out is None:
        raise RequestError("robustml poison restore=<dir> needs out=<file.parquet>")
    if Path(out).exists():
        raise RequestError(f"out={out} exists already: choose another file")
    folder = Path(str(argument("restore")))
    clean = restored_old_set(folder) if is_old_set(folder) else restored_set(folder)
    write_set(clean, Path(out))
    print("verified: all entries are there, and every record of all parts, and the set restored, is as they say")
    print("this shows that the files fit together, not who wrote them: the plan is not signed")
    print(f"restored {len(clean):,} clean records: {out}")


def main() -> None:
    """Restore where asked to, else compose poison_data.yaml."""
    if argument("restore") is not None:
        report_failures(restore)
        return
    hydra_command(poison, "poison_data")


if __name__ == "__main__":
    main()
