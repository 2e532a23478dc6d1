"""Image sets as folders of class folders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robustml.data.decode import Pictures
from robustml.data.labels import encode_labels
from robustml.data.records import Records
from robustml.data.sources.class_folders import ClassFolders, class_folders
from robustml.data.sources.parts import InFiles
from robustml.data.sources.stored import PartFiles, StoredRecords, files_as_records
from robustml.data.splits import Split

_KINDS = "apng avif bmp dib gif j2k jfif jp2 jpe jpeg jpg pbm pcx pgm png pnm ppm tga tif tiff webp"
_SUFFIXES = frozenset(f".{kind}" for kind in _KINDS.split())


@dataclass(frozen=True)
class ImageFolder(InFiles, Pictures):
    """Images in one folder a class, whose names, sorted, are the classes; other files are passed over, and named.

    Arguments as of `InFiles` (folders of class folders) and `Pictures`.
    """

    def files(self, split: Split) -> tuple[Path, ...]:
        """The class folders of the training part, which name the classes, and all that `split` comes from."""
        return (*self._found("train").folders, *self._found(split).known_by())

    def named(self, split: Split) -> list[str]:
        """The file of each row, below the folder."""
        return [path.relative_to(self.path(split)).as_posix() for path, _ in self._found(split).files]

    def load(self, split: Split) -> Records:
        """Images (N, C, H, W), uint8 in 0..255.

        Raises:
            RequestError: on a folder without class folders or images, a class unknown in training, or a bad image.
        """
        found = self._found(split)
        paths = [path for path, _ in found.files]
        where = [str(path) for path in paths].__getitem__
        y, names = encode_labels([name for _, name in found.files], self._found("train").classes, where)
        rows = self.rows(y, split)
        x, understood = self.decode(paths, where, rows)
        return Records(x, y[rows], names, found.understood + understood, rows)

    def stored(self, split: Split) -> StoredRecords:
        """One record a picture, by the name of its file; raises what looking through the folder does."""
        return files_as_records(split, self.path(split), self._found(split).files)

    def stored_files(self, split: Split) -> PartFiles:
        """The pictures, and what else lies in the folder, but for what other programs leave behind."""
        return self._found(split).kept_in(self.path(split))

    def stored_classes(self, split: Split) -> tuple[str, ...]:
        """The names of the class folders, of empty ones too."""
        return self._found(split).classes

    def _found(self, split: Split) -> ClassFolders:
        return class_folders(self.path(split), _SUFFIXES, "images")
