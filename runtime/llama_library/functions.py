"""The C functions that both families have under the same names and with the same arguments."""

import ctypes
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from runtime.errors import LibraryUnusable

POINTER = ctypes.c_void_p
INT = ctypes.c_int32
SIZE = ctypes.c_size_t
BOOL = ctypes.c_bool
TEXT = ctypes.c_char_p

ProgressCallback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_float, ctypes.c_void_p)
LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class Function(NamedTuple):
    """A C function's result and arguments."""

    result: Any
    arguments: Sequence[Any]


COMMON: Mapping[str, Function] = {
    "llama_backend_init": Function(None, ()),
    "llama_log_set": Function(None, (LogCallback, POINTER)),
    "llama_model_get_vocab": Function(POINTER, (POINTER,)),
    "llama_model_is_recurrent": Function(BOOL, (POINTER,)),
    "llama_model_is_hybrid": Function(BOOL, (POINTER,)),
    "llama_model_n_embd": Function(INT, (POINTER,)),
    "llama_model_size": Function(ctypes.c_uint64, (POINTER,)),
    "llama_model_meta_val_str": Function(INT, (POINTER, TEXT, TEXT, SIZE)),
    "llama_vocab_n_tokens": Function(INT, (POINTER,)),
    "llama_vocab_is_eog": Function(BOOL, (POINTER, INT)),
    "llama_vocab_bos": Function(INT, (POINTER,)),
    "llama_vocab_eos": Function(INT, (POINTER,)),
    "llama_vocab_get_text": Function(TEXT, (POINTER, INT)),
    "llama_free": Function(None, (POINTER,)),
    "llama_get_logits_ith": Function(POINTER, (POINTER, INT)),
    "llama_get_embeddings_ith": Function(POINTER, (POINTER, INT)),
    "llama_get_embeddings_seq": Function(POINTER, (POINTER, INT)),
}

TOKENIZE = Function(INT, (POINTER, TEXT, INT, POINTER, INT, BOOL, BOOL))
TO_PIECE = Function(INT, (POINTER, INT, TEXT, INT, INT, BOOL))
SEQUENCE_REMOVE = Function(BOOL, (POINTER, INT, INT, INT))
SEQUENCE_COPY = Function(None, (POINTER, INT, INT, INT, INT))


def bind(library: ctypes.CDLL, functions: Mapping[str, Function]) -> SimpleNamespace:
    """The functions of a library by name. Raises LibraryUnusable if one is missing."""
    bound = SimpleNamespace()
    for name, function in functions.items():
        found = getattr(library, name, None)
        if found is None:
            raise LibraryUnusable(f"it has no function {name}")
        found.argtypes, found.restype = list(function.arguments), function.result
        setattr(bound, name, found)
    return bound


def check_defaults(what: str, params: ctypes.Structure, expected: Mapping[str, object]) -> None:
    """Raise LibraryUnusable unless the library's default parameters, read through the declared
    structure, have the values that they are known to have."""
    for name, value in expected.items():
        found = getattr(params, name)
        if found != value:
            raise LibraryUnusable(
                f"its {what} have {name} = {found!r} by default, where {value!r} is declared"
            )
