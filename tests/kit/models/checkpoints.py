"""Checkpoints that were converted, read back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_int32
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.target.layouts import from_bf16
from convert.tensors.safetensors_file import read_places
from runtime.models.gguf import read_gguf

TOKEN_IDS = [5, 77, 9, 260, 33, 5, 120, 201, 7]


def ignore(num_bytes: int) -> None:
    """Nobody watches the progress."""


def load_plain(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a bf16 checkpoint, read with nothing of the converter but the cast."""
    weights = {}
    for name, place in read_places(folder / "model.safetensors").items():
        assert place.output.dtype == "BF16"
        with open(folder / place.file, "rb") as file:
            file.seek(place.offset)
            data = np.frombuffer(file.read(place.output.num_bytes), dtype="<u2")
        weights[name] = from_bf16(data).reshape(place.output.shape)
    return weights


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def llama_context(path: Path) -> Iterator[Any]:
    """llama.cpp with everything in float32 that can be."""
    llama_cpp = pytest.importorskip("llama_cpp")
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False  # repacked weights crash on some virtual machines
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model, path
    context_params = llama_cpp.llama_context_default_params()
    context_params.n_ctx, context_params.n_threads = 64, 1
    context_params.type_k = context_params.type_v = llama_cpp.GGML_TYPE_F32
    context = llama_cpp.llama_init_from_model(model, context_params)
    assert context, path
    yield context
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


def llama_cpp_logits(path: Path, token_ids: list[int]) -> np.ndarray:
    llama_cpp = pytest.importorskip("llama_cpp")
    num_tokens = len(read_gguf(path).strings("tokenizer.ggml.tokens"))
    with llama_context(path) as context:
        tokens = (c_int32 * len(token_ids))(*token_ids)
        assert (
            llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(token_ids)))
            == 0
        )
        pointer = llama_cpp.llama_get_logits_ith(context, -1)
        return np.ctypeslib.as_array(pointer, shape=(num_tokens,)).copy()


def scalar(folder: Path, name: str) -> float:
    place = read_places(folder / "model.safetensors")[name]
    assert place.output.shape == ()
    with open(folder / place.file, "rb") as file:
        file.seek(place.offset)
        return float(np.frombuffer(file.read(4), dtype="<f4")[0])
