"""Data that are used only as they were signed: refused, or restored, where a file was changed (`data.verify`)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from robustml.data import DataModule, Records, Source
from robustml.data.cache import cached, entry_of
from robustml.data.guard import Verify
from robustml.data.splits import Split
from robustml.errors import RequestError, RunFailed, pasteable
from robustml.results import SignedData, read_results
from robustml.results.integrity import Comparison
from robustml.say import say
from robustml.workflows.integrity.protect import set_files
from robustml.workflows.integrity.restore import restore_data
from robustml.workflows.integrity.verify import Vouched, compare_data, vouched

_SHOWN = 5


class Altered(RunFailed):
    """The data are not what was signed; the line names the first records."""


def guarded(data: DataModule) -> DataModule:
    """The same data, whose `verify` now has somebody to ask; nothing happens where it is "never".

    Raises:
        RequestError: there is no manifest or trust store, or nothing to heal from.
    """
    if data.verify == "never" or data.guard is not None:
        return data
    lacking = [name for name in ("manifest", "trust") if getattr(data, name) is None]
    if data.heal:
        lacking += [name for name in ("places", "key") if not getattr(data, name)]
    if lacking:
        asked = f"data.verify={data.verify}" + (" data.heal=true" if data.heal else "")
        raise RequestError(f"{asked} wants {', '.join(f'data.{name}=' for name in lacking)} as well")
    assert data.manifest is not None
    assert data.trust is not None
    folder, trust = Path(data.manifest), Path(data.trust)
    places = data.places if data.heal else ()
    data.guard = Guarding(data.verify, folder, trust, places, data.key, data.name)
    return data


def check_root(run: Path, data: DataModule) -> None:
    """Refuse data whose manifest is another than that of the run which they are for.

    Raises:
        Altered: the roots differ. Data that nobody vouches for, as ``data.verify=never`` has it, are said, not refused.
    """
    results = read_results(run) if (run / "results.json").is_file() else None
    known = None if results is None else results.data.manifest
    if known is None:
        return
    if data.guard is None:
        say(f"note:   {run} was trained on verified data, and these are not: nobody vouches that they are the same")
    elif data.guard.facts.root != known.root:
        raise Altered(
            f"{run} was trained on data with the root {known.root[:19]}, the manifest {data.manifest} has "
            f"{data.guard.facts.root[:19]}; to go on with other data, say data.verify=never"
        )


class Guarding:
    """A manifest whose signature counts, held against the files of a set.

    Args:
        verify: when, for the record.
        manifest: the folder.
        trust: the folder of public keys.
        places: of protected copies to heal from; none refuses altered files.
        key: of these copies.
        name: of the set.

    Raises:
        RequestError: there is no such manifest or trust store.
        Untrusted: the manifest is not as somebody signed it who is trusted for data.
    """

    def __init__(
        self, verify: Verify, manifest: Path, trust: Path, places: tuple[str, ...], key: str | None, name: str
    ) -> None:
        self.folder, self.trust, self.places, self.key, self.name = manifest, trust, places, key, name
        self.verify: Verify = verify
        self.given: Vouched = vouched(manifest, trust, False)
        self.healed = 0

    @property
    def facts(self) -> SignedData:
        """For results.json."""
        manifest, signer = self.given.manifest, self.given.signer
        return SignedData(
            root=manifest.root,
            name=manifest.name,
            place=str(self.folder),
            series=manifest.series,
            serial=manifest.serial,
            signed_by=None if signer is None else signer.name,
            key=None if signer is None else signer.fingerprint,
            verified=self.verify,
            healed=self.healed,
        )

    def check(self, source: Source) -> None:
        """Raise `Altered` unless every file is as signed, or could be restored."""
        found = compare_data(source, self.given, self.folder, self.name)
        if not found.same and self.places:
            self._heal(source, found)
            found = compare_data(source, self.given, self.folder, self.name)
        if not found.same:
            raise Altered(self._told(found))

    def _heal(self, source: Source, found: Comparison) -> None:
        say(f"verify: {self._told(found)}")
        assert self.key is not None
        lying = set_files(source)
        if lying is None:
            raise RequestError("data.heal=true restores files, and these data lie in none")
        restored = restore_data(self.places, self.key, lying.top)
        self.healed += len(restored.files)
        say(f"heal:   restored {', '.join(map(str, restored.files)) or 'nothing'}")

    def _told(self, found: Comparison) -> str:
        if found.nothing_left:
            return (
                f"no record of {self.name} is as signed: data.manifest={self.folder} is of another set "
                f"({self.given.manifest.name}), or all of it was changed"
            )
        lines = [str(each) for each in (*found.records, *found.files)]
        more = f", and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
        by = "" if self.given.signer is None else f" by {self.given.signer.name}"
        again = pasteable("data", "verify", f"manifest={self.folder}", f"trust={self.trust}", "data=...")
        return f"{self.name} is not as signed{by}: {'; '.join(lines[:_SHOWN])}{more} ({again} names them all)"

    def load(self, source: Source, split: Split) -> Records:
        """A part as it was decoded when it was signed; anew where the cache holds something else."""
        records = cached(source, split)
        part = self.given.manifest.parts.get(split)
        if part is not None and records.fingerprint() == part.decoded:
            return records
        if (entry := entry_of(source, split)) is None:
            return records
        with suppress(FileNotFoundError):
            entry.unlink()
        return cached(source, split)
