"""Builds TensorRT engines of a plain checkpoint, with the backend that TensorRT-LLM 1.2 still has.

The PyTorch backend needs no engines, and late candidates of 1.3 have no builder: this is for those
who run the older backend. It needs the GPU that the engines are for.
"""

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec import Struct

from convert.pipeline.workspace import refuse_existing
from runtime.errors import MissingExtra, SetupError

_AUTO_SEQ_LEN = 4096
_BESIDE = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "chat_template.jinja",
)
"""Files that a server needs beside the engines; the builder writes `config.json` itself."""


class EngineLimits(Struct, frozen=True, kw_only=True):
    """What the engines are built for: sequences at once, tokens of one sequence and of one step.

    `max_seq_len` 0 means the model's own limit, at most 4,096.
    """

    max_batch_size: int = 16
    max_seq_len: int = 0
    max_num_tokens: int = 8192


def build_engine(checkpoint: Path, target: Path, limits: EngineLimits) -> None:
    """Write a folder of engines for this machine's GPU. `target` must not exist.

    Raises MissingExtra without TensorRT-LLM, SetupError for a release without the builder, for a
    quantized checkpoint, and with the builder's own words where it fails.
    """
    refuse_existing(target)
    longest = _check_checkpoint(checkpoint)
    max_seq_len = limits.max_seq_len or min(longest, _AUTO_SEQ_LEN)
    if max_seq_len > longest:
        raise SetupError(f"--max-seq-len {max_seq_len}: the model ends at {longest} tokens.")
    llm_class, build_config_class = _load_builder()
    build_config = build_config_class(
        max_batch_size=limits.max_batch_size,
        max_input_len=max_seq_len,
        max_seq_len=max_seq_len,
        max_num_tokens=max(limits.max_num_tokens, limits.max_batch_size),
    )
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _build(llm_class, build_config, checkpoint, partial)
    for name in _BESIDE:
        if (checkpoint / name).is_file() and not (partial / name).exists():
            shutil.copyfile(checkpoint / name, partial / name)
    partial.rename(target)


def _build(llm_class: Any, build_config: Any, checkpoint: Path, folder: Path) -> None:
    """Builds by loading: the class builds engines when it loads a checkpoint."""
    try:
        llm = llm_class(model=str(checkpoint), build_config=build_config)
    except Exception as error:  # the user must read the error, whatever it is
        raise SetupError(f"{checkpoint}: TensorRT-LLM builds no engine of it: {error}") from error
    try:
        llm.save(str(folder))
    finally:
        llm.shutdown()


def _check_checkpoint(folder: Path) -> int:
    """The longest sequence in tokens."""
    config = _read_object(folder / "config.json")
    if (folder / "hf_quant_config.json").is_file() or "quantization_config" in config:
        raise SetupError(
            f"{folder} is quantized, which the builder does not load; convert to bf16 or fp16."
        )
    longest = config.get("max_position_embeddings")
    if not isinstance(longest, int) or longest < 1:
        raise SetupError(f"{folder}: config.json has no `max_position_embeddings`.")
    return longest


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SetupError(f"{path}: cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise SetupError(f"{path} is not a JSON object.")
    return value


def _load_builder() -> tuple[Any, Any]:
    try:
        package = import_module("tensorrt_llm")
    except ModuleNotFoundError as error:
        if error.name != "tensorrt_llm":
            raise SetupError(f"TensorRT-LLM needs {error.name}, which is missing.") from error
        raise MissingExtra("TensorRT-LLM", "tensorrt") from error
    except (ImportError, OSError, RuntimeError) as error:  # a shared library is missing
        raise SetupError(f"TensorRT-LLM is installed and does not load: {error}") from error
    try:
        llm_class = import_module("tensorrt_llm._tensorrt_engine").LLM
        return llm_class, import_module("tensorrt_llm.llmapi").BuildConfig
    except (ModuleNotFoundError, AttributeError) as error:
        raise SetupError(
            f"The installed TensorRT-LLM {package.__version__} builds no engines: late"
            " candidates of 1.3, and 1.4, lack the backend for them. Serve the checkpoint itself,"
            " which needs none, or install TensorRT-LLM 1.2."
        ) from error
