"""What a manifest says of a set, and what became of the set since: manifest.json, and the report of a verification."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from robustml.results.rates import Block, Count

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Change = Literal["altered", "deleted", "inserted", "moved", "swapped", "renamed", "unreadable"]


class ManifestFile(Block):
    """A file of a set: its path below the folder that all parts lie in, for which part it is read, and its content."""

    part: str
    path: str
    size: Count
    sha256: Digest


class ManifestPart(Block):
    """A part of a set.

    Attributes:
        path: what it is read from, a file or a folder, below the folder that all parts lie in; None without files.
        records: how many there are.
        classes: how many records each class has, in the order of the labels where the files name it.
        fields: what a record consists of, beside its label.
        root: of the Merkle tree over the records.
        decoded: `Records.fingerprint` of the part as it is loaded, where it was computed.
    """

    path: str | None = None
    records: Count
    classes: dict[str, Count]
    fields: list[str]
    root: Digest
    decoded: Digest | None = None


class Manifest(Block):
    """manifest.json, format 1.

    Attributes:
        format: of the file.
        name: of the set.
        series: names what is remade in the same place; a later manifest of it has a higher `serial`.
        serial: from 1 on.
        created: when, in UTC.
        source: where the set comes from, in the words of whoever made the manifest; so are `licence` and `revision`.
        licence: under which it may be used.
        revision: which state of it this is.
        parts: what is stored, by name.
        root: of the Merkle tree over the parts: a leaf is the name of a part, a zero byte and its root.
        files: all that the set is read from.
        records_sha256: the digest of records.parquet.
    """

    format: Literal[1] = 1
    name: str
    series: str = Field(pattern=r"^[0-9a-f]{32}$")
    serial: int = Field(ge=1, le=10**15)
    created: str
    source: str = ""
    licence: str = ""
    revision: str = ""
    parts: dict[str, ManifestPart] = Field(min_length=1)
    root: Digest
    files: list[ManifestFile]
    records_sha256: Digest

    @model_validator(mode="after")
    def _files_are_of_its_parts(self) -> Manifest:
        if strange := {file.part for file in self.files} - self.parts.keys():
            raise ValueError(f"files of the part {min(strange)!r}, which there is none of")
        return self


class RecordChange(Block):
    """What became of one record.

    Attributes:
        record: its id in words, such as "train 17": the row that it was signed at, or was found at where it is new.
        change: what was done to it.
        file: the file of its own that it was signed as, or is new as.
        fields: what of it differs: "input", "label" or another field.
        label: the class before and after, where that differs.
        now: where it is found: a record, or the file of one.
        note: what else is known, such as whose copy it is.
        digests: of its input before and after, where that is known.
    """

    record: str
    change: Change
    file: str = ""
    fields: list[str] = Field(default_factory=list)
    label: tuple[str | None, str | None] | None = None
    now: str = ""
    note: str = ""
    digests: tuple[str | None, str | None] = (None, None)

    @property
    def what(self) -> str:
        """What changed, in words, without the record."""
        fields = [field.removeprefix("input.") for field in self.fields if field not in ("input", "label")]
        parts = ["input"] if "input" in self.fields else []
        if table := [field for field in self.fields if field.startswith("input.")]:
            parts.append(f"input ({', '.join(field.removeprefix('input.') for field in table)})")
        parts += [field for field in fields if f"input.{field}" not in self.fields]
        if self.label is not None:
            before, after = ("none" if one is None else one for one in self.label)
            parts.append(f"label {before} -> {after}")
        said: str = self.change if self.change != "altered" else ""
        if self.now:
            said += f" {'with' if self.change == 'swapped' else 'to'} {self.now}"
        return "; ".join(filter(None, [said, ", ".join(parts), self.note]))

    def __str__(self) -> str:
        return f"{self.record}{f' ({self.file})' if self.file else ''}: {self.what}"


class FileChange(Block):
    """What became of one file, or of what a part as a whole says: its classes or columns."""

    file: str
    change: str

    def __str__(self) -> str:
        return f"{self.file}: {self.change}"


class Side(Block):
    """One side of a comparison.

    Attributes:
        name: of the set.
        what: the manifest or the data that it is, as the user named it.
        root: of the Merkle tree; None of data, which are compared record by record.
        created: when the manifest was made.
        revision: which state of the set it is said to be.
        serial: of the manifest.
        signed_by: whose key; "" where nobody's is known to have signed.
        fingerprint: of that key.
        trouble: why no signature counts.
    """

    name: str
    what: str
    root: Digest | None = None
    created: str = ""
    revision: str = ""
    serial: Count | None = None
    records: Count | None = None
    signed_by: str = ""
    fingerprint: str = ""
    trouble: str = ""


class Comparison(Block):
    """What differs between a set as it was signed and another state of it.

    Attributes:
        old: the state that counts.
        new: what it is compared with.
        same: whether nothing differs, in the content and in the files.
        compared: how many records were compared one by one; 0 where the files were as signed.
        files: those that differ.
        records: every record that does.
    """

    old: Side
    new: Side
    same: bool
    compared: Count = 0
    files: list[FileChange] = Field(default_factory=list)
    records: list[RecordChange] = Field(default_factory=list)

    @property
    def nothing_left(self) -> bool:
        """Whether no record is as it was signed, at its place or another: most likely it is another set."""
        changed = sum(each.change in ("altered", "deleted") for each in self.records)
        return bool(self.old.records) and changed >= (self.old.records or 0)

    @model_validator(mode="after")
    def _same_only_without_changes(self) -> Comparison:
        if self.same and (self.files or self.records):
            raise ValueError("it is the same, and has changes")
        return self
