"""Dequantizes rows of a tensor to float32: with ggml's own functions if installed, else with numpy.

Both give the same bits. ggml, which comes with a llama.cpp library, is ten to twenty times as fast.
"""

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

_LIBRARIES = {
    "llama_cpp": {"darwin": "libggml-base.dylib", "win32": "ggml-base.dll", "": "libggml-base.so"},
    "ik_llama_cpp": {"darwin": "libggml.dylib", "win32": "ggml.dll", "": "libggml.so"},
}
"""Files by Python package and platform."""

_CONTEXT_BYTES = 65_536

_Function = Callable[[int, int, int], None]


def dequantize(
    data: npt.NDArray[np.uint8],
    kind: str,
    num_rows: int,
    row_length: int,
    *,
    out: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """The values of `num_rows` rows of type `kind` (ggml's name), shape (num_rows, row_length).

    `data` holds exactly these rows. The result may be a view of it, or of `out` if that is large
    enough. Raises NotImplementedError for a type that neither ggml nor `gguf` can read.
    """
    shape = (num_rows, row_length)
    if kind == "F32":
        return data.view("<f4").astype(np.float32, copy=False).reshape(shape)
    if kind == "F16":
        return data.view("<f2").astype(np.float32).reshape(shape)
    if kind == "BF16":
        return (data.view("<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    function = ggml_function(f"dequantize_row_{_c_name(kind)}")
    if function is None:
        return dequantize_with_numpy(data, kind, num_rows, row_length)
    count = num_rows * row_length
    room = np.empty(count, dtype=np.float32) if out is None or out.size < count else out[:count]
    values = room.reshape(shape)
    function(data.ctypes.data, values.ctypes.data, values.size)
    return values


def dequantize_with_numpy(
    data: npt.NDArray[np.uint8], kind: str, num_rows: int, row_length: int
) -> npt.NDArray[np.float32]:
    """As `dequantize`, for block types, with the `gguf` package alone."""
    from gguf import GGMLQuantizationType, dequantize

    known = GGMLQuantizationType.__members__.get(kind)
    if known is None:
        raise NotImplementedError(kind)
    with np.errstate(all="ignore"):  # damaged scales may be infinite
        values: npt.NDArray[np.float32] = dequantize(data.reshape(num_rows, -1), known)
    return values.reshape(num_rows, row_length)


@cache
def ggml_function(name: str) -> _Function | None:
    """A function of ggml that takes source, destination and a count of values; None if it is not
    installed."""
    library = _ggml()
    function = getattr(library, name, None) if library is not None else None
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        function.restype = None
    return function


@cache
def _ggml() -> ctypes.CDLL | None:
    """ggml's base library, found beside a llama.cpp library without importing its package."""
    for module, names in _LIBRARIES.items():
        spec = find_spec(module)
        folders = (spec.submodule_search_locations or []) if spec is not None else []
        for folder in folders:
            path = Path(folder) / "lib" / names.get(sys.platform, names[""])
            if path.is_file():
                return _prepared(ctypes.CDLL(str(path)))
    return None


class _InitParams(ctypes.Structure):
    """`ggml_init_params` of ggml.h."""

    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


def _prepared(library: ctypes.CDLL) -> ctypes.CDLL:
    """ggml computes the table that turns 16-bit floats into 32 bits when its first context is made;
    until then all of them are 0."""
    library.ggml_init.argtypes, library.ggml_init.restype = [_InitParams], ctypes.c_void_p
    library.ggml_free.argtypes, library.ggml_free.restype = [ctypes.c_void_p], None
    library.ggml_free(library.ggml_init(_InitParams(_CONTEXT_BYTES, None, True)))
    return library


def _c_name(kind: str) -> str:
    """The type's name in ggml's functions: q4_K for Q4_K, iq4_nl for IQ4_NL."""
    return f"{kind[:-2].lower()}_K" if kind.endswith("_K") else kind.lower()
