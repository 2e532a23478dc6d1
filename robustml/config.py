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
