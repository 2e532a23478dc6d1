"""The names that pickles of weights need, each harmless whatever it is called with; every other one is refused.

A subset of what torch's own `weights_only` reader takes, numpy's arrays, and the wrapper that joblib puts around them.
Left out on purpose, though weights may hold them: `torch.storage._load_from_bytes`, which unpickles what it is given,
and `torch._tensor._rebuild_from_type_v2`, which calls what it is given.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SIZES", "WRAPPER", "Name", "is_allowed", "is_storage"]


@dataclass(frozen=True, slots=True)
class Name:
    """What a pickle imports: a module, and a name in it."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


WRAPPER = Name("joblib.numpy_pickle", "NumpyArrayWrapper")

SIZES = {
    "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1, "ShortStorage": 2, "IntStorage": 4, "LongStorage": 8,
    "HalfStorage": 2, "BFloat16Storage": 2, "FloatStorage": 4, "DoubleStorage": 8,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
    "QInt8Storage": 1, "QUInt8Storage": 1, "QInt32Storage": 4, "QUInt4x2Storage": 1, "QUInt2x4Storage": 1,
    "UntypedStorage": 1,
}  # fmt: skip
"""Kinds of storages of torch, and the bytes of an element."""

_TYPES = """bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex32 complex64
complex128 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu qint8 quint8 qint32
quint4x2 quint2x4 per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric
per_channel_affine_float_qparams"""
_REBUILD = """_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state
_rebuild_sparse_tensor _rebuild_qtensor _rebuild_meta_tensor_no_storage"""
_LISTED = {
    "builtins": {"set", "frozenset", "complex", "bytes", "bytearray"},
    "collections": {"OrderedDict", "Counter"},
    "_codecs": {"encode"},
    "torch": {"Size", "device", "Tensor", *_TYPES.split(), *SIZES},
    "torch.cuda": set(SIZES),
    "torch.storage": {"UntypedStorage", "TypedStorage"},
    "torch.serialization": {"_get_layout"},
    "torch._utils": set(_REBUILD.split()),
    "torch.nn.parameter": {"Parameter"},
    "numpy": {"ndarray", "dtype"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy._core.numeric": {"_frombuffer"},
    WRAPPER.module: {WRAPPER.name},
}


def is_allowed(name: Name) -> bool:
    """Whether weights need it."""
    return name.name in _LISTED.get(name.module, ())


def is_storage(name: object) -> bool:
    """Whether it is a kind of storage of torch."""
    return isinstance(name, Name) and name.module in ("torch", "torch.cuda", "torch.storage") and name.name in SIZES
