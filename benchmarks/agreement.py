"""How far a converted checkpoint is from its GGUF file, token by token.

The file is computed by llama.cpp, the checkpoint by transformers on torch in float32, from weights
decoded as the layouts say. Compared are the distributions at each position of a text.

llama.cpp rounds activations to 8 bits where weights are quantized, so that the file as it is
differs from any other computation of the same weights. `write_float_gguf` makes a file of float32
weights out of it, with which llama.cpp rounds nothing.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from convert.checks.decoding import decoded_weights
from convert.checks.verify import Target
from convert.source.gguf import GGUFSource, open_source
from runtime.llama_library.installed import installed_families, open_library
from runtime.llama_library.library import LlamaLibrary
from runtime.llama_library.results import floats_at
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, LoadedModel, ModelOptions
from runtime.models.gguf import GGUFValue, read_gguf
from runtime.tokenizers.load import load_tokenizer

Logits = npt.NDArray[np.float32]

_CONTEXT = 1024
_WRITTEN = ("general.architecture", "general.alignment")
_KINDS = {
    bool: gguf.GGUFValueType.BOOL,
    int: gguf.GGUFValueType.UINT32,
    float: gguf.GGUFValueType.FLOAT32,
    str: gguf.GGUFValueType.STRING,
}
"""The types that llama.cpp expects of a model's sizes and factors."""
_NUM_ROWS = 16
"""Of logits compared at a time: in float64 a model's vocabulary is megabytes."""


class Agreement(Struct, frozen=True):
    """`top1` is the share of positions with the same likeliest token, `kl` the mean divergence of
    the second distribution from the first, in nats."""

    top1: float
    kl: float


LICENCE = Path(__file__).parent.parent / "LICENSE"


def plain_text(model: Path, num_tokens: int, file: Path = LICENCE) -> list[int]:
    """Token ids of a piece of a text, by default of the Apache licence."""
    text = file.read_text(encoding="utf-8")[2000:]
    tokenizer = load_tokenizer(str(model))
    return tokenizer.encode(text, add_special=True, parse_special=False)[:num_tokens]


def write_float_gguf(path: Path, target: Path) -> None:
    """The same model in float32, without its vocabulary: logits do without it."""
    source = open_source(path)
    writer = gguf.GGUFWriter(target, source.architecture)
    for key, value in source.header.metadata.items():
        if key not in _WRITTEN and not key.startswith(("tokenizer.", "split.")):
            _add_value(writer, key, value)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(source.tensors["token_embd.weight"].shape[0])
    for name, tensor in source.tensors.items():
        size = tensor.num_values * 4
        writer.add_tensor_info(name, tensor.shape, np.dtype(np.float32), size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in source.tensors.items():
        writer.write_tensor_data(_values(source, name).reshape(tensor.shape))
    writer.close()


def _add_value(writer: gguf.GGUFWriter, key: str, value: GGUFValue) -> None:
    if type(value) in _KINDS:
        writer.add_key_value(key, value, _KINDS[type(value)])
    else:
        writer.add_array(key, list(value))


def _values(source: GGUFSource, name: str) -> Logits:
    with source.open_tensor(name) as reader:
        return reader.read(0, reader.tensor.num_rows).copy()


def reference_library() -> str:
    """llama.cpp itself where it is installed, else the library that is."""
    return installed_families()[-1]


def text_logits(
    path: Path,
    token_ids: list[int],
    *,
    library: str = "",
    num_threads: int = 2,
    repacks: bool = False,
) -> Logits:
    """The logits at each position of at most 1,024, shape (positions, vocabulary), with a cache in
    float32 if the library has that. `library` is a family's name; none means the reference. Where
    it `repacks`, weights are arranged for the processor in the library's own way."""
    opened = open_library(library or reference_library())
    options = ModelOptions(
        use_extra_bufts=repacks and opened.traits.has_extra_bufts,
        repack_tensors=repacks and opened.traits.can_repack,
    )
    model = opened.load_model(str(path), options, file=read_gguf(str(path)))
    assert model, f"{opened.family} does not load {path}: {opened.last_messages()}"
    context = _context(opened, model, num_threads)
    try:
        return _decoded(opened, model, context, token_ids)
    finally:
        opened.free_context(context)
        opened.free_model(model)


def _context(library: LlamaLibrary, model: LoadedModel, num_threads: int) -> int:
    options = ContextOptions(
        num_cells=_CONTEXT,
        max_batch=_CONTEXT,
        max_rows=_CONTEXT,
        max_sequences=1,
        num_threads=num_threads,
        kv_cache_type="f32" if library.traits.has_float32_cache else "f16",
    )
    context = library.new_context(model, options)
    assert context, f"{library.family} makes no context: {library.last_messages()}"
    return context


def _decoded(
    library: LlamaLibrary, model: LoadedModel, context: int, token_ids: list[int]
) -> Logits:
    batch = TokenBatch(library, max_tokens=_CONTEXT, max_ids=1)
    batch.put(token_ids, 0, (0,), wanted=True)
    assert library.decode(context, batch.data) == 0
    width = library.num_vocab(model)
    rows = [floats_at(library.logits(context, row), width) for row in range(len(token_ids))]
    return np.stack(rows)


def checkpoint_logits(folder: Path, token_ids: list[int]) -> Logits:
    """What transformers computes in float32 from the decoded weights of a folder."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    with _no_init_weights():  # all of them are replaced
        model = AutoModelForCausalLM.from_config(config).eval()
    decoded = decoded_weights(Target(folder))
    weights = {name: torch.from_numpy(values) for name, values in decoded}
    missing = model.load_state_dict(weights, strict=False, assign=True)
    assert not missing.unexpected_keys, missing
    assert set(missing.missing_keys) <= {"lm_head.weight"}, missing
    model.tie_weights()
    model.float()  # what is left: the buffers
    with torch.no_grad():
        logits: Logits = model(torch.tensor([token_ids])).logits[0].float().numpy()
    return logits


def _no_init_weights() -> AbstractContextManager[None]:
    """transformers' own, which 5 has moved."""
    try:
        from transformers.initialization import no_init_weights
    except ImportError:
        from transformers.modeling_utils import no_init_weights
    context: AbstractContextManager[None] = no_init_weights()
    return context


def compare(first: Logits, second: Logits) -> Agreement:
    """Of the same positions; what the second has beyond the first's vocabulary is left out."""

    def rows(start: int) -> tuple[float, float]:
        stop = start + _NUM_ROWS
        return _compare_rows(first[start:stop], second[start:stop, : first.shape[1]])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = list(pool.map(rows, range(0, len(first), _NUM_ROWS)))
    same, kl = (sum(values) / len(first) for values in zip(*parts, strict=True))
    return Agreement(same, kl)


def _compare_rows(first: Logits, second: Logits) -> tuple[float, float]:
    """Both figures, summed up over the rows."""
    one, two = _log_softmax(first), _log_softmax(second)
    same = np.count_nonzero(one.argmax(axis=1) == two.argmax(axis=1))
    two -= one
    return float(same), -float(np.einsum("ij,ij->", np.exp(one, out=one), two))


def _log_softmax(logits: Logits) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted
