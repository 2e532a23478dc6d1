"""Where the built-in configs are: inside the installed package, or at the top of a source checkout."""

from __future__ import annotations

from pathlib import Path

from robustml.errors import RequestError


def config_dir() -> Path:
    """The folder with train.yaml and the config groups.

    Raises:
        RequestError: neither place has it: the installation is incomplete.
    """
    package = Path(__file__).parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise RequestError(f"the built-in configs are missing: neither in {package} nor beside it; reinstall robustml")


def config_groups(*folders: Path) -> dict[str, list[str]]:
    """The options of every config group by its name, such as ``data/extra``; the entry points are those of ``""``."""
    groups: dict[str, set[str]] = {}
    for folder in folders:
        for path in folder.rglob("*.yaml"):
            group = path.parent.relative_to(folder).as_posix().removeprefix(".")
            groups.setdefault(group, set()).add(path.stem)
    return {group: sorted(options) for group, options in sorted(groups.items())}
