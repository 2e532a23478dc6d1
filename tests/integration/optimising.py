"""What an optimising sweeper of Hydra is handed of a job, noted by a callback of Hydra."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback

__all__ = ["Note"]


class Note(Callback):
    """Writes each job's return value into its folder."""

    def on_job_end(self, config: Any, job_return: JobReturn, **kwargs: Any) -> None:
        """Write returned.json."""
        folder = Path(job_return.hydra_cfg.hydra.runtime.output_dir)  # type: ignore[union-attr]
        (folder / "returned.json").write_text(json.dumps(job_return.return_value))
