"""What each precision costs in quality: mean KL divergence and top-1 agreement with the source.

    python benchmarks/convert_quality.py model.gguf FOLDER... [--text FILE] [--positions 512]

The folders are those that `lockgate-convert run` has made of the GGUF file. llama.cpp computes the
source's logits, transformers in float32 those of the decoded folders, on the same token ids. Needs
torch and llama-cpp-python. By default the text is the Apache licence, which no calibration has
seen.
"""

import argparse
import ctypes
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from convert.decoding import decoded_weights
from convert.verify import Target
from runtime.errors import ModelFileError
from runtime.llama_vocab import load_llama_cpp
from runtime.tokenizer import load_tokenizer

_LICENCE = Path(__file__).parents[1] / "LICENSE"
_SKIPPED_CHARACTERS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", help="the GGUF file")
    parser.add_argument("folders", nargs="+", metavar="FOLDER")
    parser.add_argument("--text", type=Path, default=_LICENCE)
    parser.add_argument("--positions", type=int, default=512)
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.source)
    text = arguments.text.read_text(encoding="utf-8")[_SKIPPED_CHARACTERS:]
    ids = tokenizer.encode(text, add_special=True, parse_special=False)[: arguments.positions]
    expected = _log_softmax(source_logits(arguments.source, ids, tokenizer.vocab_size))
    print(f"{len(ids)} positions of {arguments.text.name}")
    print("| folder | mean KL | top-1 | perplexity |\n|---|---|---|---|")
    print(f"| (source) | | | {perplexity(expected, ids):.2f} |")
    for folder in arguments.folders:
        found = _log_softmax(folder_logits(Path(folder), ids)[:, : tokenizer.vocab_size])
        divergence = float((np.exp(expected) * (expected - found)).sum(-1).mean())
        agreement = float((expected.argmax(-1) == found.argmax(-1)).mean())
        name = Path(folder).name
        row = f"| {name} | {divergence:.4f} | {agreement:.1%} | {perplexity(found, ids):.2f} |"
        print(row, flush=True)


def source_logits(path: str, ids: list[int], vocab_size: int) -> np.ndarray:
    """The logits of every position, of shape (positions, vocabulary)."""
    llama_cpp = load_llama_cpp()
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False  # repacked weights crash on some virtual machines
    model = llama_cpp.llama_model_load_from_file(path.encode(), params)
    if not model:
        raise ModelFileError(f"{path}: llama.cpp cannot load it.")
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = options.n_ubatch = len(ids) + 64
    context = llama_cpp.llama_init_from_model(model, options)
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for i, token_id in enumerate(ids):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = token_id, i, 1
        batch.seq_id[i][0], batch.logits[i] = 0, 1
    if llama_cpp.llama_decode(context, batch):
        raise ModelFileError(f"{path}: llama.cpp cannot compute it.")
    rows = [_row(llama_cpp.llama_get_logits_ith(context, i), vocab_size) for i in range(len(ids))]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return np.stack(rows)


def folder_logits(folder: Path, ids: list[int]) -> np.ndarray:
    """The same of a converted folder, by transformers on its decoded weights."""
    import torch
    import transformers

    with tempfile.TemporaryDirectory() as plain:
        # without hf_quant_config.json, which transformers need not understand
        config = msgspec.json.decode((folder / "config.json").read_bytes())
        (Path(plain) / "config.json").write_bytes(msgspec.json.encode(config))
        made: Any = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.from_pretrained(plain)
        )
    model = made.float()
    weights = {name: torch.from_numpy(v) for name, v in decoded_weights(Target(folder))}
    result = model.load_state_dict(weights, strict=False)
    if result.unexpected_keys or set(result.missing_keys) - {"lm_head.weight"}:
        raise ModelFileError(f"{folder}: {result}")
    model.tie_weights()
    with torch.no_grad():
        logits: np.ndarray = model(torch.tensor([ids])).logits[0].numpy()
    return logits


def perplexity(log_probs: np.ndarray, ids: list[int]) -> float:
    """How surprised a model is by the text itself."""
    chosen = log_probs[np.arange(len(ids) - 1), ids[1:]]
    return float(np.exp(-chosen.mean()))


def _row(pointer: "ctypes._Pointer[ctypes.c_float]", count: int) -> np.ndarray:
    return np.ctypeslib.as_array(pointer, shape=(count,)).copy()


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(-1, keepdims=True))
    return shifted


if __name__ == "__main__":
    main()
