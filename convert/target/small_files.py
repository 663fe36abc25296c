"""The small files of a target: configuration, quantization, tokenizer."""

import hashlib
import json
import shutil
from math import isfinite
from pathlib import Path
from typing import Any

from convert.architectures.base import Config
from convert.source.folder import FolderSource
from convert.target.older_config import with_older_names
from convert.target.recipe import ALGORITHMS, INT4_GROUP, KEEP, NVFP4_GROUP, Recipe
from convert.tensors.weights import Weight
from convert.tokenizer import build_tokenizer, end_token_ids
from runtime.errors import ModelFileError, SetupError
from runtime.models.gguf import GGUFFile
from runtime.models.hf_folder import CONFIG_FILE, GENERATION_CONFIG_FILE
from runtime.version import __version__

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
_TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_SAMPLING = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}


def write_config(folder: Path, header: GGUFFile, config: Config, recipe: Recipe) -> None:
    """config.json and generation_config.json."""
    ends = end_token_ids(header)
    _write(folder / "config.json", {**config, "torch_dtype": recipe.dtype})
    generation: dict[str, Any] = {
        key: config[key] for key in ("bos_token_id", "pad_token_id") if key in config
    }
    if ends:
        generation["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    for key, name in _SAMPLING.items():
        value = header.metadata.get(f"general.sampling.{key}")
        if isinstance(value, (int, float)):
            if not isfinite(value):
                raise ModelFileError(f"{header.path}: `general.sampling.{key}` is {value}.")
            generation[name] = value
            generation["do_sample"] = True
    _write(folder / "generation_config.json", generation)


def copy_config(folder: Path, original: FolderSource, recipe: Recipe) -> None:
    """Copies config.json, changing only the type and the packing, and generation_config.json."""
    given = {k: v for k, v in original.config.items() if k != "quantization_config"}
    config = with_older_names(given)
    # transformers 5 writes `dtype`; TensorRT-LLM 1.2 reads the older name
    config["torch_dtype"] = recipe.dtype
    if "dtype" in config:
        config["dtype"] = recipe.dtype
    _write(folder / CONFIG_FILE, config)
    generation = original.folder / GENERATION_CONFIG_FILE
    if generation.is_file():
        shutil.copyfile(generation, folder / GENERATION_CONFIG_FILE)
        return
    found = {key: config[key] for key in _TOKEN_IDS if config.get(key) is not None}
    _write(folder / GENERATION_CONFIG_FILE, found)


def write_tokenizer(folder: Path, header: GGUFFile) -> None:
    """tokenizer.json and tokenizer_config.json, from the vocabulary."""
    tokenizer, tokenizer_config = build_tokenizer(header)
    text = json.dumps(tokenizer, ensure_ascii=False)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    _write(folder / "tokenizer_config.json", tokenizer_config)


def copy_tokenizer(folder: Path, original: Path) -> None:
    """The original model's own tokenizer files. Raises SetupError where there are none."""
    check_tokenizer(original, f"--tokenizer {original}")
    for path in _tokenizer_files(original):
        shutil.copyfile(path, folder / path.name)


def check_tokenizer(original: Path, label: str) -> None:
    """Raises SetupError, beginning with `label`, for a folder without a tokenizer."""
    found = {path.name for path in _tokenizer_files(original)}
    if found.isdisjoint(("tokenizer.json", "tokenizer.model")):
        raise SetupError(f"{label}: there is no tokenizer.json or tokenizer.model.")
    if "tokenizer_config.json" not in found:
        raise SetupError(f"{label}: there is no tokenizer_config.json.")


def tokenizer_hash(original: Path) -> str:
    """Changes when any of the files that `copy_tokenizer` takes does."""
    digest = hashlib.sha256()
    for path in _tokenizer_files(original):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _tokenizer_files(original: Path) -> list[Path]:
    return [original / name for name in _TOKENIZER_FILES if (original / name).is_file()]


def write_quantization(folder: Path, weights: list[Weight], recipe: Recipe) -> None:
    """hf_quant_config.json, and quant_cfg.json if quantized layers differ in precision.

    A checkpoint without quantized layers and without a quantized KV cache has neither.
    """
    linear = {weight: recipe.precision_of(weight) for weight in weights if weight.linear}
    used = sorted(set(linear.values()) - {KEEP})
    kv_cache = recipe.kv_cache.upper() or None
    if not used and kv_cache is None:
        return
    quantization: dict[str, Any] = {"quant_algo": None, "kv_cache_quant_algo": kv_cache}
    if len({ALGORITHMS[precision] for precision in used}) == 1:
        quantization.update(_algorithm(used[0]))
    elif used:
        quantization["quant_algo"] = "MIXED_PRECISION"
        layers = {w.experts or w.module: _algorithm(p) for w, p in linear.items() if p != KEEP}
        mixed = {**quantization, "quantized_layers": layers}
        _write(folder / "quant_cfg.json", mixed)
        quantization["quantized_layers"] = layers
    if used:
        quantization["exclude_modules"] = _excluded(linear)
    producer = {"name": "lockgate", "version": __version__}
    _write(folder / "hf_quant_config.json", {"producer": producer, "quantization": quantization})


def _algorithm(precision: str) -> dict[str, Any]:
    algorithm: dict[str, Any] = {"quant_algo": ALGORITHMS[precision]}
    if ALGORITHMS[precision] == "W4A16_AWQ":
        algorithm |= {"group_size": INT4_GROUP, "has_zero_point": False, "pre_quant_scale": True}
    if ALGORITHMS[precision] == "W4A16_NVFP4":
        algorithm["group_size"] = NVFP4_GROUP
    return algorithm


def _excluded(linear: dict[Weight, str]) -> list[str]:
    """Modules that stay plain, by the names of the checkpoint and of the loader's fused ones."""
    kept = [weight for weight, precision in linear.items() if precision == KEEP]
    names = [name for weight in kept for name in _loaded_as(weight)]
    routers = ["*.gate"] if any(weight.experts for weight in linear) else []
    return ["lm_head", *routers, *dict.fromkeys(names)]


def _loaded_as(weight: Weight) -> tuple[str, ...]:
    if weight.experts:
        return weight.experts, f"{weight.experts}.*"
    return (weight.module, weight.group) if weight.group else (weight.module,)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
