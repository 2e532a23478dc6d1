"""Files that a scan has to pass and to refuse. What the latter name is harmless, and none of them is ever loaded."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import joblib
import numpy as np
import torch
from torch import nn

CALL = b"cos\ngetpid\n)R."  # protocol 0
PROTO4 = b"\x80\x04"


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


def calls(module: str, name: str, arguments: bytes = b")") -> bytes:
    """A pickle of protocol 4 that calls a name."""
    return PROTO4 + text(module) + text(name) + b"\x93" + arguments + b"R."


PRINT = calls("builtins", "print")
IMPORT = calls("importlib", "import_module", b"(" + text("this") + b"t")
# Names that a scanner by a list of bad ones has to know, one by one.
_GADGETS = """
os.getpid posix.getpid builtins.print builtins.eval builtins.exec builtins.getattr builtins.__import__
importlib.import_module importlib._bootstrap._gcd_import runpy._run_code subprocess.Popen
torch.storage._load_from_bytes torch.load torch.hub.load torch._dynamo.guards.GuardBuilder.get
torch.utils.collect_env.run torch._tensor._rebuild_from_type_v2 torch.jit.load joblib.load numpy.load
numpy.testing._private.utils.runstring operator.attrgetter functools.partial pip.main pydoc.pipepager timeit.timeit
types.CodeType marshal.loads pickle.loads _pickle.loads dill.loads cloudpickle.loads ctypes.CDLL shutil.rmtree
socket.create_connection webbrowser.open collections.OrderedDict.fromkeys
torch._utils._rebuild_tensor_v2.__globals__ sklearn.linear_model.Ridge
asyncio.unix_events._UnixSubprocessTransport._start code.InteractiveInterpreter.runcode bdb.Bdb.run pdb.run
profile.run cProfile.run trace.Trace.run ensurepip._run_pip idlelib.run.Executive.runcode site.execsitecustomize
distutils.file_util.write_file logging.config.fileConfig multiprocessing.util.spawnv_passfds
"""
GADGETS = _GADGETS.split()


def npy(shape: str, descr: str, content: bytes) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def tarred(members: dict[str, bytes], change: Callable[[tarfile.TarInfo], object] = lambda member: None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            change(member)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def saved(value: object, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def safetensors(header: str | bytes, content: bytes = b"") -> bytes:
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + content


class Hidden:
    def __reduce__(self) -> Any:
        return print, ("x",)


def in_joblib(compress: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump({"a": np.ones(3), "b": Hidden()}, file, compress=compress)
    return file.getvalue()


def array_that_is_a_pickle() -> bytes:
    """joblib passes over the array; a plain unpickler goes on in the middle of it."""
    file = io.BytesIO()
    joblib.dump(np.frombuffer(b"cbuiltins\nprint\n)R.".ljust(64, b"."), np.uint8), file)
    content = file.getvalue()
    place = content.index(b"cbuiltins")
    padding = content[:place].rstrip(b"\xff")  # as many as its last byte says: none in their place
    assert padding[-1] == place - len(padding)
    assert b"K\x10ub" in padding
    return padding[:-1].replace(b"K\x10ub", b"Nub") + content[place:]


def legacy_with(behind: bytes) -> bytes:
    return saved({"w": torch.ones(3)}, _use_new_zipfile_serialization=False) + behind


def torch_zip(**members: bytes) -> bytes:
    """A state dict's zip with other members."""
    file = io.BytesIO(saved({"w": torch.ones(3)}))
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(content)).partition("/")[0]
    return zipped(content | {f"{root}/{name.replace('__', '.')}": value for name, value in members.items()})


def bad() -> dict[str, tuple[bytes, str]]:
    """Content, and what has to be said of it."""
    big = b"\0" * (80 * 2**20)
    found = {f"gadget {name}": (calls(*name.rsplit(".", 1)), name) for name in GADGETS}
    found |= {
        "protocol 0": (CALL, "would call os.getpid()"),
        "protocol 1": (b"(cos\ngetpid\no.", "would call os.getpid"),
        "protocol 2 newobj": (b"\x80\x02cbuiltins\nprint\n)\x81.", "builtins.print"),
        "protocol 4 newobj_ex": (PROTO4 + b"cbuiltins\nprint\n)}\x92.", "builtins.print"),
        "inst": (b"(ios\ngetpid\n.", "would call os.getpid()"),
        "inst with arguments": (b"(Vx\nibuiltins\nprint\n.", "would call builtins.print('x')"),
        "import alone": (PROTO4 + b"cantigravity\nx\n.", "would import antigravity.x"),
        "import alone, as text": (b"cantigravity\nx\n.", "would import antigravity.x"),
        "call, then damage": (CALL[:-1] + b"\xff\xff", "os.getpid"),
        "name by way of memo": (
            PROTO4 + text("builtins") + b"\x94" + text("print") + b"\x94" + b"00h\x00h\x01\x93)R.",
            "builtins.print",
        ),
        "name by sparse memo": (PROTO4 + b"Vprint\np7\n0Vbuiltins\ng7\n\x93)R.", "builtins.print"),
        "name that is computed": (
            b"\x80\x04" + text("builtins") + b"c_codecs\nencode\n" + text("print") + text("latin1") + b"\x86R\x93.",
            "cannot be told",
        ),
        "name in a dict": (PROTO4 + text("os") + b"}\x93.", "cannot be told"),
        "text of protocol 0 with escapes": (b"c\\x63ollections\nOrderedDict\n)R.", "\\x63ollections.OrderedDict"),
        "a module with an accent": ("cm\u00f3dulo\nf\n)R.".encode(), "m\u00f3dulo.f"),
        "a hexadecimal number first": (b"I0x10\n0" + CALL, "os.getpid"),
        "a long one": (b"L0x10L\n0" + CALL, "os.getpid"),
        "a text of another encoding first": ("S'\u00e9'\n0".encode() + CALL, "os.getpid"),
        "a file that ends within a line": (b"\x80\x02cos\ngetpid)", "os.getpid"),
        "two lines in one": (b"ccollections \nOrderedDict\n)R.", "collections .OrderedDict"),
        "line with a carriage return": (b"ccollections\r\nOrderedDict\n)R.", "OrderedDict"),
        "attribute of a listed name": (calls("collections", "OrderedDict.__init__.__globals__"), "__globals__"),
        "what a call gave": (b"\x80\x02ccollections\nOrderedDict\n)R)R.", "what collections.OrderedDict gives"),
        "attributes of a listed class": (b"\x80\x02ctorch\nTensor\n}X\x01\0\0\0xK\x01sb.", "would change torch.Tensor"),
        "items of a listed class": (b"\x80\x02ctorch\nTensor\nK\x01K\x02s.", "would change torch.Tensor"),
        "another encoding": (b"\x80\x02c_codecs\nencode\nX\x01\0\0\0xX\x03\0\0\0zip\x86R.", "another encoding"),
        "room for nothing": (b"\x80\x02cbuiltins\nbytes\nJ\xff\xff\xff\x7f\x85R.", "would make builtins.bytes"),
        "extension": (PROTO4 + b"\x82\x01.", "extension 1"),
        "extension 2": (PROTO4 + b"\x83\x01\x02.", "extension 513"),
        "extension 4": (PROTO4 + b"\x84\x01\0\0\0.", "extension 1"),
        "persistent": (b"\x80\x02X\x01\0\0\0xQ.", "persistent id"),
        "persistent text": (b"\x80\x02Px\n.", "persistent id"),
        "truncated": (PRINT[:-1], "would call builtins.print"),
        "truncated argument": (PROTO4 + b"\x8e" + struct.pack("<Q", 2**40) + b"x", "cannot be followed"),
        "no such protocol": (b"\x80\x09N.", "protocol 9"),
        "no stack": (PROTO4 + b"0.", "empty stack"),
        "no mark": (PROTO4 + b"t.", "mark"),
        "never kept": (PROTO4 + b"h\x07.", "never kept"),
        "trailing": (pickle.dumps({}) + b"abc", "behind its end"),
        "second pickle": (pickle.dumps({}) + CALL, "would call os.getpid()"),
        "behind padding": (pickle.dumps({}) + bytes(64) + CALL, "behind its end"),
        "behind leading zeros": (bytes(64) + CALL, "no kind that is known"),
        "behind text": (b"# a model\n" + CALL + b"\xff", "no kind that is known"),
        "behind a long argument": (PROTO4 + b"B" + struct.pack("<I", 2**20) + bytes(2**20) + b"0" + PRINT[2:], "print"),
        "torch module": (saved(nn.Linear(2, 2)), "torch.nn.modules.linear.Linear"),
        "torch module, before 1.6": (saved(nn.Linear(2, 2), _use_new_zipfile_serialization=False), "linear.Linear"),
        "torch with a call": (saved({"w": torch.ones(2), "x": Hidden()}), "would call builtins.print('x')"),
        "torch, before 1.6, with a call": (
            saved({"w": torch.ones(2), "x": Hidden()}, _use_new_zipfile_serialization=False),
            "would call builtins.print('x')",
        ),
        "torch, before 1.6, trailing": (legacy_with(b"x"), "behind its pickles"),
        "torch, before 1.6, and a pickle": (legacy_with(PRINT), "behind its pickles"),
        "tensor in a plain pickle": (pickle.dumps(torch.ones(2)), "torch.storage._load_from_bytes"),
        "torch with another pickle": (torch_zip(extra=PRINT), "would call builtins.print"),
        "torch with a pickle for a picture": (torch_zip(look__png=PRINT), "would call builtins.print"),
        "torch whose storage is a pickle": (torch_zip(**{"data/0": PRINT}), "builtins.print"),
        "torch whose storage is short": (torch_zip(**{"data/0": b"1234"}), "its pickle names 12"),
        "TorchScript": (torch_zip(**{"code/__torch__.py": b"class M(Module):\n  pass\n"}), "TorchScript"),
        "the first of two": (_twice(), "would call builtins.print"),
        "zip behind a script": (b"#!/bin/sh\nexit\n" + zipped({"a.pkl": PRINT}), "is a zip as well"),
        "zip behind a picture": (b"\x89PNG\r\n\x1a\n" + bytes(64) + zipped({"a": PRINT}), "would call builtins.print"),
        "zip behind a tensor": (safetensors("{}") + zipped({"a": PRINT}), "is a zip as well as safetensors"),
        "picture that is a pickle": (b"GIF89abcde"[:9] + b"cbuiltins\nprint\n)R.", "builtins.print"),
        "Parquet that is a pickle": (b"PAR1\ncbuiltins\nprint\n)R.", "builtins.print"),
        "zip in zip": (zipped({"a.zip": zipped({"b": PRINT})}), "a.zip!b: would call builtins.print"),
        "zip, deflated": (zipped({"b.txt": PRINT}, zipfile.ZIP_DEFLATED), "would call builtins.print"),
        "zip, bzip2": (zipped({"b.txt": PRINT}, zipfile.ZIP_BZIP2), "would call builtins.print"),
        "zip, lzma": (zipped({"b.txt": b"x"}, zipfile.ZIP_LZMA), "not read here"),
        "zip, encrypted": (_encrypted(), "encrypted"),
        "zip that leads out": (zipped({"../x": b"x"}), "leads out"),
        "zip, absolute": (zipped({"/etc/x": b"x"}), "leads out"),
        "zip, cut": (zipped({"x": b"x" * 100})[:-30], "damaged"),
        "bomb": (zipped({"x": big}, zipfile.ZIP_DEFLATED), "unpacks to far more"),
        "bomb in a bomb": (zipped({"x": zipped({"y": big}, zipfile.ZIP_DEFLATED)}, zipfile.ZIP_DEFLATED), "too much"),
        "nested": (_nested(8), "nested more than"),
        "gzip": (gzip.compress(PRINT), "would call builtins.print"),
        "gzip, two parts": (gzip.compress(PROTO4 + b"N.") + gzip.compress(PRINT), "builtins.print"),
        "gzip, trailing": (gzip.compress(pickle.dumps({})) + b"x", "behind its end"),
        "gzip, cut": (gzip.compress(bytes(range(256)) * 9)[:-9], "damaged"),
        "gzip bomb": (gzip.compress(big), "unpacks to far more"),
        "zlib": (zlib.compress(PRINT), "would call builtins.print"),
        "bzip2": (bz2.compress(PRINT), "would call builtins.print"),
        "xz": (lzma.compress(PRINT), "would call builtins.print"),
        "lzma": (lzma.compress(PRINT, lzma.FORMAT_ALONE), "would call builtins.print"),
        "tar": (tarred({"a": b"x", "b": PRINT}), "b: would call builtins.print"),
        "tar.gz": (gzip.compress(tarred({"b": PRINT})), "would call builtins.print"),
        "tar that leads out": (tarred({"../b": b"x"}), "leads out"),
        "tar with a link": (tarred({"b": b""}, _as_link), "no ordinary file"),
        "tar with a device": (tarred({"b": b""}, lambda member: setattr(member, "type", tarfile.CHRTYPE)), "ordinary"),
        "joblib": (in_joblib(0), "would call builtins.print('x')"),
        **{
            f"joblib {kind}": (in_joblib((kind, 3)), "builtins.print") for kind in ("zlib", "gzip", "bz2", "xz", "lzma")
        },
        "joblib whose array is a pickle": (array_that_is_a_pickle(), "builtins.print"),
        "array of objects": (npy("(1,)", "'|O'", PRINT), "would call builtins.print"),
        "npz of objects": (zipped({"a.npy": npy("(1,)", "'|O'", IMPORT)}), "importlib.import_module('this')"),
        "array that lies": (npy("(9,)", "'<f8'", b"x"), "claims 72 bytes and holds 1"),
        "array with code": (npy("(__import__('os').getpid(),)", "'<f8'", b"x"), "cannot be read"),
        "array trailing": (npy("(1,)", "'|u1'", b"x" + PRINT), "claims 1 bytes"),
        "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "Lambda"),
        "Keras": (zipped({"config.json": b"{}", "model.weights.h5": b"\x89HDF\r\n\x1a\n" + bytes(64)}), "Lambda"),
        "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(64), "7z archive"),
        "program": (b"\x7fELF" + bytes(64), "program"),
        "script": (b"#!/bin/sh\n", "script"),
        "empty": (b"", "empty"),
        "noise": (bytes(range(255, 0, -1)), "no kind that is known"),
        "safetensors, too long": (struct.pack("<Q", 2**39) + b"{}" + bytes(20), "claims"),
        "safetensors, no JSON": (safetensors("{]"), "no JSON"),
        "safetensors, deep": (safetensors('{"a":' + "[" * 200_000), "no JSON"),
        "safetensors, twice": (safetensors('{"a":1,"a":2}'), "twice"),
        "safetensors, gap": (safetensors(_tensor(1, 5), bytes(5)), "begins at 1"),
        "safetensors, overlap": (safetensors(_tensors((0, 4), (2, 6)), bytes(6)), "begins at 2"),
        "safetensors, short": (safetensors(_tensor(0, 4), bytes(3)), "3 bytes are there"),
        "safetensors, long": (safetensors(_tensor(0, 4), bytes(5)), "5 bytes are there"),
        "safetensors, shape": (safetensors(_tensor(0, 4).replace("[1]", "[2]"), bytes(4)), "size of its shape"),
        "safetensors, negative": (safetensors(_tensor(0, 4).replace("[1]", "[-1]"), bytes(4)), "size of its shape"),
        "safetensors, kind": (safetensors(_tensor(0, 4).replace("F32", "F33"), bytes(4)), "no kind"),
    }
    return found


def _tensor(start: int, end: int) -> str:
    return f'{{"w":{{"dtype":"F32","shape":[1],"data_offsets":[{start},{end}]}}}}'


def _tensors(*spans: tuple[int, int]) -> str:
    each = [f'"{n}":{{"dtype":"F32","shape":[1],"data_offsets":[{a},{b}]}}' for n, (a, b) in enumerate(spans)]
    return "{" + ",".join(each) + "}"


def _as_link(member: tarfile.TarInfo) -> None:
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"


def _twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in (PRINT, pickle.dumps({})):
            archive.writestr("archive/data.pkl", content)
    return file.getvalue()


def _encrypted() -> bytes:
    content = bytearray(zipped({"x": b"x"}))
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(magic) + place] |= 1
    return bytes(content)


def _nested(depth: int) -> bytes:
    content = pickle.dumps({})
    for _ in range(depth):
        content = zipped({"x": content})
    return content
