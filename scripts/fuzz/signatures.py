"""Coverage-guided fuzzing of what reads bundles, trust stores, keys, logs, names, manifests and heads, by atheris.

    python scripts/fuzz/signatures.py [RUNS] [TARGET ...]

It needs `atheris` beside pydantic, rich, pyyaml, cryptography, fsspec, numpy and pyarrow, and no torch. Each
target starts from valid files; an exception other than RequestError and RunFailed stops it with the input that did it.
tests/integrity/test_fuzz_signing.py does the same by Hypothesis, in the ordinary environment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import atheris

with atheris.instrument_imports(include=["robustml"]):
    from robustml.errors import RequestError, RunFailed
    from robustml.integrity.audit_log import append, verify_log
    from robustml.integrity.bundle import read_bundle, read_statement
    from robustml.integrity.entries import read_entry
    from robustml.integrity.keys import make_keys, public_of, read_private
    from robustml.integrity.manifest import MANIFEST, PartOf, read_manifest, write_manifest
    from robustml.integrity.names import check_names
    from robustml.integrity.protection import protect
    from robustml.integrity.protection.datakey import key_path, read_key
    from robustml.integrity.protection.heads import Unreadable, open_head
    from robustml.integrity.seen import SEEN, read_seen
    from robustml.integrity.signing import SIGNATURE, check_folder, sign_folder
    from robustml.integrity.trust import TRUST, check_serial, own_key, read_trust


def targets(place: Path) -> dict[str, tuple[list[bytes], Callable[[bytes], object]]]:
    """By name: valid inputs to start from, and what reads one."""
    keys, folder, log = place / "keys", place / "m", place / "log"
    own_key(keys, make_keys(keys), "alice")
    trust = read_trust(keys)
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    bundle = sign_folder(folder, keys).read_bytes()
    payload = read_bundle(bundle.decode(), "it").payload
    for _ in range(2):
        append(log, read_private(keys), "signed", {"m": "sha256:0"}, {"new": True, "records": 3})
    lines = log.read_bytes()
    check_serial(trust, "mnist", 3)
    other = place / "other"
    own_key(other, make_keys(other), "bob")

    def written(path: Path, read: Callable[[], object]) -> Callable[[bytes], object]:
        def reading(content: bytes) -> object:
            path.write_bytes(content)
            return read()

        return reading

    def signed() -> None:
        checked = check_folder(folder, trust, "data")
        assert checked.signer.name == "alice"
        assert not checked.changes

    def entry(content: bytes) -> None:
        with suppress(ValueError):
            assert read_entry(content).line + b"\n" == content

    def whole() -> None:
        verify_log(log, read_trust(place / "keys"))
        assert lines.startswith(log.read_bytes())

    class Record(NamedTuple):
        row: int
        name: str
        fields: dict[str, bytes | None]

    records = [Record(row, f"{row}.png", {"input": b"x", "label": b"a"}) for row in range(3)]
    write_manifest(place / "set", {"train": PartOf(records)}, name="set")
    protect([place / "log"], [str(place / name) for name in "xyz"], 2, place / "secret")
    secret = read_key(key_path(place / "secret"))
    heads = [path.read_bytes() for path in (place / "x").rglob("*.head")]
    store, seen, private = other / TRUST, other / SEEN, other / "private.pem"
    return {
        "bundle": ([bundle], written(folder / SIGNATURE, signed)),
        "envelope": ([bundle], lambda content: read_bundle(content.decode(errors="replace"), "it")),
        "statement": ([payload], lambda content: read_statement(content, "it")),
        "store": ([store.read_bytes()], written(store, lambda: read_trust(other))),
        "seen": ([(keys / SEEN).read_bytes()], written(seen, lambda: read_seen(other))),
        "entry": (lines.splitlines(keepends=True), entry),
        "log": ([lines], written(log, whole)),
        "public": ([(keys / "public.pem").read_bytes()], lambda content: public_of(content, "it")),
        "private": ([private.read_bytes()], written(private, lambda: read_private(other))),
        "manifest": (
            [(place / "set" / MANIFEST).read_bytes()],
            written(place / "set" / MANIFEST, lambda: read_manifest(place / "set")),
        ),
        "head": (heads, lambda content: open_head(content, secret)),
        "names": (
            [b"a/b\nc", b"A\na/..\n/x"],
            lambda content: check_names(content.decode(errors="replace").split("\n"), "it"),
        ),
    }


def fuzz(name: str, runs: int) -> None:
    """Fuzz one target until so many inputs were tried; this does not return."""
    place = Path(tempfile.mkdtemp())
    seeds, read = targets(place)[name]
    (place / "corpus").mkdir()
    for number, seed in enumerate(seeds):
        (place / "corpus" / str(number)).write_bytes(seed)

    def one(content: bytes) -> None:
        with suppress(RequestError, RunFailed, Unreadable):
            read(content)

    atheris.Setup([sys.argv[0], f"-runs={runs}", "-max_len=4096", "-verbosity=0", str(place / "corpus")], one)
    atheris.Fuzz()


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as place:
        names = sys.argv[2:] or list(targets(Path(place)))
    if len(names) == 1:
        fuzz(names[0], runs)
    for name in names:
        done = subprocess.run([sys.executable, __file__, str(runs), name], capture_output=True, text=True, check=False)
        print(f"{name}: {runs:,} inputs" if done.returncode == 0 else f"{name}: {done.stderr[-2000:]}", flush=True)


if __name__ == "__main__":
    main()
