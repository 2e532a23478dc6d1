"""`robustml model verify run=<dir> trust=<folder>`: exit status 0 where a run is as somebody trusted signed it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command

if TYPE_CHECKING:
    from omegaconf import DictConfig


class ModelVerify(Asked):
    """What the config must hold."""

    run: str = ""
    trust: str = ""


def verify(config: DictConfig) -> None:
    """Check the signature and every file."""
    from robustml.workflows.integrity.sign import verify_model

    if verify_model(Path(config.run), Path(config.trust)).changes:
        sys.exit(1)


def main() -> None:
    """Compose model_verify.yaml, and verify."""
    hydra_command(verify, "model_verify", ModelVerify)


if __name__ == "__main__":
    main()
