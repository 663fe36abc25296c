"""Calibration by NVIDIA's ModelOpt, for scales that only activations can give.

The model is converted to a plain checkpoint first, which transformers loads onto the GPU or into
main memory; ModelOpt runs a text through it and writes the folder that TensorRT-LLM loads. None of
these packages is imported before it is needed.
"""

import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from convert.pipeline.convert import Progress, convert
from convert.pipeline.plan import Options
from convert.pipeline.workspace import refuse_existing
from convert.target.recipe import make_recipe
from runtime.errors import MissingExtra, SetupError

# ModelOpt's names (modelopt.torch.quantization).
CONFIGS = {"fp8": "FP8_DEFAULT_CFG", "int4-awq": "INT4_AWQ_CFG"}
_KV_CACHE_CONFIG = "FP8_KV_CFG"
_SAMPLES, _SAMPLE_TOKENS = 128, 512
_COPIED = ("generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model")


Device = Literal["gpu", "cpu"]


def calibrate_on(
    device: Device,
    path: Path,
    target: Path,
    precision: str,
    text: str,
    options: Options,
    progress: Progress,
    *,
    kv_cache: str = "",
) -> None:
    """Write a checkpoint whose scales ModelOpt has measured with `text`. `target` must not exist.

    Raises SetupError for a precision that has nothing to measure, without the GPU that is asked
    for, and for a text that is too short; MissingExtra without the packages.
    """
    refuse_existing(target)
    if precision not in CONFIGS:
        raise SetupError(
            f"--calibrate-on: {precision} measures nothing; it is for {', '.join(CONFIGS)}."
        )
    libraries = _Libraries(device)
    plain, partial = (target.with_name(f"{target.name}.{kind}") for kind in ("plain", "partial"))
    if not plain.is_dir():
        convert(path, plain, make_recipe("bf16"), options, progress)
    shutil.rmtree(partial, ignore_errors=True)
    _quantize(libraries, plain, partial, precision, kv_cache, text)
    for name in _COPIED:
        if (plain / name).is_file():
            shutil.copyfile(plain / name, partial / name)
    partial.rename(target)
    shutil.rmtree(plain)


class _Libraries:
    """torch, transformers and ModelOpt, and torch's name of the device for them."""

    def __init__(self, device: Device) -> None:
        self.device = "cuda" if device == "gpu" else "cpu"
        self.torch = _load("torch")
        self.transformers = _load("transformers")
        self.quantization = _load("modelopt.torch.quantization")
        self.export = _load("modelopt.torch.export")
        if device == "gpu" and not self.torch.cuda.is_available():
            raise SetupError(
                "--calibrate-on gpu: torch sees no GPU. See `lockgate doctor`, or calibrate on the"
                " cpu, which takes longer."
            )


def _quantize(
    libraries: _Libraries, plain: Path, folder: Path, precision: str, kv_cache: str, text: str
) -> None:
    transformers, torch = libraries.transformers, libraries.torch
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(plain))
    samples = _samples(tokenizer(text)["input_ids"])
    model = transformers.AutoModelForCausalLM.from_pretrained(str(plain), dtype=torch.bfloat16)
    model = model.to(libraries.device).eval()

    def forward_loop(quantized: Any) -> None:
        with torch.no_grad():
            for sample in samples:
                quantized(torch.tensor([sample], device=libraries.device))

    config = _config(libraries.quantization, precision, kv_cache)
    quantize: Callable[..., Any] = libraries.quantization.quantize
    model = quantize(model, config, forward_loop)
    with torch.inference_mode():
        libraries.export.export_hf_checkpoint(model, export_dir=str(folder))


def _config(quantization: Any, precision: str, kv_cache: str) -> Any:
    """The precision's configuration; the KV cache's is laid over it. The rules are a list, of which
    the last that fits a layer counts, and a mapping in older releases."""
    config = getattr(quantization, CONFIGS[precision])
    if not kv_cache:
        return config
    rules, more = config["quant_cfg"], getattr(quantization, _KV_CACHE_CONFIG)["quant_cfg"]
    joined = [*rules, *more] if isinstance(rules, list) else {**rules, **more}
    return {**config, "quant_cfg": joined}


def _samples(token_ids: list[int]) -> list[list[int]]:
    """Pieces of equal length; the remainder at the end is not used."""
    starts = range(0, len(token_ids) - _SAMPLE_TOKENS + 1, _SAMPLE_TOKENS)
    samples = [token_ids[start : start + _SAMPLE_TOKENS] for start in starts]
    if not samples:
        raise SetupError(
            f"--calibration: it has {len(token_ids)} tokens; {_SAMPLE_TOKENS} are the least."
        )
    return samples[:_SAMPLES]


def _load(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if not name.startswith(error.name or " "):
            raise SetupError(f"{name} needs {error.name}, which is missing.") from error
        package = "nvidia-modelopt" if name.startswith("modelopt") else name
        raise MissingExtra(package, "calibrate") from error
    except (ImportError, OSError, RuntimeError) as error:  # a shared library is missing
        raise SetupError(f"{name} is installed and does not load: {error}") from error
