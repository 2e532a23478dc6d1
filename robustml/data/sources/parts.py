"""What sources of files share: one for each part, or one from which the test part is held out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from robustml.data.sources.stored import PartFiles
from robustml.data.splits import Split, part_of
from robustml.errors import RequestError


@dataclass(frozen=True)
class InFiles:
    """A set that lies in files or folders.

    Args:
        train: what to train on, relative to the current folder. It decides on the classes.
        test: the same for testing; None holds out a stratified fifth of `train`.
    """

    train: str
    test: str | None = None

    def files(self, split: Split) -> tuple[Path, ...]:
        """Both files, since the training part decides on more than itself."""
        return tuple(Path(path) for path in (self.train, self.test) if path is not None)

    @property
    def parts(self) -> tuple[Split, ...]:
        """What is stored: one part alone where the test part is held out of it."""
        return ("train",) if self.test is None else ("train", "test")

    def stored_root(self, split: Split) -> Path | None:
        """What the user named."""
        return self.path(split)

    def stored_files(self, split: Split) -> PartFiles | None:
        """The one file."""
        return PartFiles(self.path(split), (self.path(split),))

    def stored_classes(self, split: Split) -> tuple[str, ...] | None:
        """None: a table names the classes by its labels."""
        return None

    def path(self, split: Split) -> Path:
        """Where `split` is read from."""
        return Path(self.train if self.test is None or split == "train" else self.test)

    def rows(self, y: Tensor, split: Split) -> Tensor:
        """Which rows (K,) of that file, of the labels `y` (N,), are of `split`: all where there are two files."""
        return torch.arange(len(y)) if self.test is not None else part_of(y, split)


def absent(path: Path, kind: str = "file") -> RequestError:
    """The error of a path where nothing of the kind is."""
    return RequestError(f"no {kind} {path} (looked from {Path.cwd()}); paths are relative to the current folder")
