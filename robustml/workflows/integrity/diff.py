"""`robustml data diff`: what became of a set between two manifests, or since one, and who signed for either state."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from robustml.data import Source
from robustml.data.picture import BROKEN, background_colour, read_picture
from robustml.data.sources.stored import Damaged, as_stored
from robustml.errors import RequestError
from robustml.integrity.changes import State, changes_of
from robustml.integrity.manifest import read_records
from robustml.integrity.trust import Untrusted
from robustml.results.integrity import Comparison, FileChange, Manifest, RecordChange
from robustml.workflows.integrity.apart import Died, apart
from robustml.workflows.integrity.verify import Vouched, compare_data, vouched

# Pictures on a page: as many, and their longest side in pixels.
_MOST_PICTURES, _SIDE = 200, 128


def diff_data(
    old: Path | str, new: Path | str | None = None, source: Source | None = None, *, trust: Path | str | None = None
) -> Comparison:
    """Compare two manifests, or a manifest with the set itself.

    Args:
        old: a manifest.
        new: another one; None compares with the set.
        source: the set.
        trust: a trust store. A signature that does not count is told of, and hinders nothing here.

    Raises:
        RequestError: a manifest or trust store is missing or damaged; or there is nothing to compare with.
    """
    before = _side(Path(old), trust)
    if new is None:
        if source is None:
            raise RequestError("expected something to compare with: new=<manifest>, or the set by data=...")
        return compare_data(source, before, Path(old))
    after = _side(Path(new), trust)
    files, records, compared = [], list[RecordChange](), 0
    for part in dict.fromkeys([*before.manifest.parts, *after.manifest.parts]):
        parts = [side.manifest.parts.get(part) for side in (before, after)]
        if parts[0] is None or parts[1] is None:
            files.append(FileChange(file=part, change=f"the part is {'new' if parts[0] is None else 'missing'}"))
            continue
        if list(parts[0].classes) != list(parts[1].classes):
            files.append(FileChange(file=part, change="other classes, or in another order"))
        if parts[0].root != parts[1].root:
            state = State(read_records(Path(new), after.manifest, part))
            compared += state.count
            records += changes_of(part, read_records(Path(old), before.manifest, part), state)
    files += _files(before.manifest, after.manifest)
    return Comparison(
        old=before.side(Path(old)),
        new=after.side(Path(new)),
        same=not (files or records),
        compared=compared,
        files=files,
        records=records,
    )


def _side(folder: Path, trust: Path | str | None) -> Vouched:
    try:
        return vouched(folder, None if trust is None else Path(trust), unsigned=False)
    except Untrusted as error:
        return Vouched(vouched(folder, None, unsigned=True).manifest, None, str(error))


def _files(old: Manifest, new: Manifest) -> list[FileChange]:
    before, after = ({(file.part, file.path): file.sha256 for file in side.files} for side in (old, new))
    changes = dict.fromkeys(before.keys() - after.keys(), "missing")
    changes |= dict.fromkeys(after.keys() - before.keys(), "added")
    changes |= {key: "altered" for key in before.keys() & after.keys() if before[key] != after[key]}
    return [FileChange(file=path, change=change) for (_, path), change in sorted(changes.items())]


def pictures_of(found: Comparison, source: Source) -> dict[str, str]:
    """The pictures of what changed, as far as the set at hand has them: small PNG files as data URIs, by digest."""
    wanted = {digest for change in found.records[:_MOST_PICTURES] for digest in change.digests if digest is not None}
    stored, pictures = as_stored(source), dict[str, str]()

    def drawn() -> Iterator[tuple[str, str]]:
        for part in stored.parts if wanted else ():
            for record in stored.stored(part):
                content = None if isinstance(record, Damaged) else record.fields.get("input")
                digest = "" if content is None else f"sha256:{hashlib.sha256(content).hexdigest()}"
                if content is not None and digest in wanted and (shown := _picture(content)) is not None:
                    yield digest, shown

    with suppress(Died, RequestError):  # what cannot be read has no picture
        pictures.update(apart(drawn))
    return pictures


def _picture(content: bytes) -> str | None:
    try:
        pixels = read_picture(content, None, None, background_colour("white")).pixels
    except BROKEN:
        return None
    from PIL import Image

    image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
