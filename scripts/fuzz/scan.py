"""Coverage-guided fuzzing of `robustml model scan`, by atheris, held against an unpickler that imports nothing.

    python -m venv fuzz && fuzz/bin/pip install atheris
    PYTHONPATH=. fuzz/bin/python scripts/fuzz/scan.py 200000

It needs no torch. Each input is scanned as a file; whatever it holds, the scan ends without an exception, and what a
pickle of it looks up outside of the list is refused. How many inputs were tried is said at the end.
"""

from __future__ import annotations

import _compat_pickle
import io
import pickle
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["robustml.scanning"]):
    from robustml.scanning import scan
    from robustml.scanning.allowed import Name, is_allowed

SEEDS = (
    b"\x80\x04\x8c\x02os\x8c\x06getpid\x93)R.",
    b"cos\ngetpid\n)R.",
    b"(ios\ngetpid\n.",
    pickle.dumps({"a": [1, 2.0, "x", b"y", {3}]}, 0),
    pickle.dumps({"a": [1, 2.0, "x", b"y", {3}]}, 2),
    pickle.dumps({"a": [1, 2.0, "x", b"y", {3}]}, 5),
    b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    b"\x93NUMPY\x01\x00\x30\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    b"\x02\0\0\0\0\0\0\0{}",
    b"PK\x05\x06" + bytes(18),
)


class Unpickler(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """Python's own, which imports nothing, and notes what it was to look up."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self.names: set[Name] = set()

    def find_class(self, module: str, name: str) -> Any:  # noqa: D102
        if self.proto < 3:
            module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
            module = _compat_pickle.IMPORT_MAPPING.get(module, module)
        self.names.add(Name(module, name))
        return type("Inert", (), {"__new__": lambda cls, *_, **__: object.__new__(cls)})

    def get_extension(self, code: int) -> None:  # noqa: D102
        self.append(self.find_class("copyreg", str(code)))


def main(runs: int) -> None:
    """Try so many inputs."""
    tried = passed = 0
    with tempfile.TemporaryDirectory() as folder:
        path, corpus = Path(folder, "file"), Path(folder, "corpus")
        corpus.mkdir()
        for place, seed in enumerate(SEEDS):
            (corpus / str(place)).write_bytes(seed)

        def one(content: bytes) -> None:
            nonlocal tried, passed
            path.write_bytes(content)
            found = scan(path)
            tried, passed = tried + 1, passed + (not found.findings)
            if not found.findings and found.files["file"] in ("pickle", "joblib"):
                unpickler = Unpickler(content)
                with suppress(Exception):
                    unpickler.load()
                assert all(map(is_allowed, unpickler.names)), unpickler.names
            if tried >= runs:  # the fuzzer ends without coming back
                print(f"{tried:,} inputs tried, {passed:,} of them passed, the rest refused", flush=True)

        atheris.Setup([sys.argv[0], f"-runs={runs}", "-max_len=2048", "-verbosity=0", str(corpus)], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
