"""`robustml data audit-log verify log=<file> trust=<folder>`: whether a log of what was done is whole, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from robustml.commands.hydra.asked import Asked
from robustml.commands.hydra.entry import hydra_command

if TYPE_CHECKING:
    from omegaconf import DictConfig


class AuditLogVerify(Asked):
    """What the config must hold."""

    log: str = ""
    trust: str = ""
    head: str | None = None
    show: Annotated[int, Field(ge=0)] = 0


def verify(config: DictConfig) -> None:
    """Check every entry, and print the last."""
    from robustml.workflows.integrity.auditing import verify_audit_log

    verify_audit_log(Path(config.log), Path(config.trust), config.head, show=config.show)


def main() -> None:
    """Compose data_audit_log_verify.yaml, and verify."""
    hydra_command(verify, "data_audit_log_verify", AuditLogVerify)


if __name__ == "__main__":
    main()
