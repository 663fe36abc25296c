"""Loads the model into the package."""

import filecmp
from pathlib import Path
from typing import Any

import structlog
from msgspec import Struct

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import TensorRTConfig
from runtime.engines.tensorrt_llm.setup.auto import fill_settings
from runtime.engines.tensorrt_llm.setup.checkpoint import Checkpoint, read_checkpoint
from runtime.engines.tensorrt_llm.setup.options import Sizes, build_arguments, find_sizes
from runtime.engines.tensorrt_llm.setup.package import Package, find_class, load_package
from runtime.errors import SetupError
from runtime.hardware.nvml import GpuReader
from runtime.hardware.readings import GpuSnapshot
from runtime.messages.loading import Announce, tell_nobody

log = structlog.get_logger(__name__)


class LoadedModel(Struct, frozen=True):
    """The package with a model. `config` has the plan's choices in place of "auto"; `gpus` are as
    they were before; `lora_requests` are the package's names of adapters, by ours."""

    package: Package
    llm: Any
    config: EngineConfig
    sizes: Sizes
    gpus: GpuSnapshot
    lora_requests: dict[str, Any]


def load_model(
    config: EngineConfig, model_path: str, model_len: int, announce: Announce = tell_nobody
) -> LoadedModel:
    """Loads the model's folder, which may take minutes. `model_len` is the model's own context in
    tokens, 0 if unknown. `announce` is told when the package begins.

    Raises SetupError for settings and models that cannot be served here, ModelFileError for a
    damaged folder, MissingExtra without the package.
    """
    checkpoint = read_checkpoint(model_path)
    package = _load_package(checkpoint)
    gpus = _read_gpus()
    config = fill_settings(config, checkpoint, gpus, package.kernels)
    sizes = find_sizes(config, checkpoint, model_len)
    _warn_of_tokenizer(config.tensorrt_llm, checkpoint)
    announce("engine")
    llm = _construct(package, build_arguments(config, checkpoint, sizes, package))
    sizes = _as_loaded(sizes, llm)
    return LoadedModel(package, llm, config, sizes, gpus, _lora_requests(config.tensorrt_llm))


def _read_gpus() -> GpuSnapshot:
    reader = GpuReader()
    try:
        return reader.read()
    finally:
        reader.close()


def _load_package(checkpoint: Checkpoint) -> Package:
    if checkpoint.built is None:
        return load_package()
    log.warning(
        "tensorrt_engines_are_legacy",
        folder=str(checkpoint.folder),
        hint="TensorRT-LLM 1.3 does not load them; serve the model's Hugging Face folder",
    )
    return load_package(legacy=True)


def _construct(package: Package, arguments: dict[str, Any]) -> Any:
    """Every error of the package becomes a SetupError for the user: the same arguments would fail
    again on this machine."""
    try:
        return package.llm_class(**arguments)
    except Exception as error:
        raise SetupError(
            f"TensorRT-LLM does not load {arguments['model']}: {error}. Check engine.tensorrt_llm,"
            " the model's folder and the memory of the GPU."
        ) from error


def _as_loaded(sizes: Sizes, llm: Any) -> Sizes:
    """The sizes with the length that the package has settled on, which may be shorter. It is seen
    only where the package works in this process (docs/tensorrt-llm-contract.md, 1.5)."""
    length = getattr(llm._executor, "max_seq_len", None)
    if not isinstance(length, int) or not 0 < length < sizes.max_model_len:
        return sizes
    log.warning("context_lowered_by_package", max_model_len=length, wanted=sizes.max_model_len)
    return sizes._replace(max_model_len=length)


def _warn_of_tokenizer(settings: TensorRTConfig, checkpoint: Checkpoint) -> None:
    """The package takes the tokenizer of the adapter, if there is one adapter alone and its folder
    has one (docs/tensorrt-llm-contract.md, 1.6)."""
    folders = [Path(folder) for folder in settings.lora.adapters.values()]
    if len(folders) != 1:
        return
    theirs, ours = folders[0] / "tokenizer.json", checkpoint.folder / "tokenizer.json"
    are_files = theirs.is_file() and ours.is_file()
    if are_files and not filecmp.cmp(theirs, ours, shallow=False):
        log.warning(
            "adapter_brings_a_tokenizer",
            folder=str(folders[0]),
            hint="TensorRT-LLM uses it for structured output, with wrong tokens if it differs from"
            " the model's: move tokenizer.json out of the adapter's folder",
        )


def _lora_requests(settings: TensorRTConfig) -> dict[str, Any]:
    if not settings.lora.adapters:
        return {}
    lora_request = find_class("LoRARequest")
    adapters = enumerate(settings.lora.adapters.items(), 1)
    return {name: lora_request(name, number, folder) for number, (name, folder) in adapters}
