"""How the weights of a checkpoint folder are stored, found as TensorRT-LLM finds it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from runtime.errors import ModelFileError
from runtime.planning.precisions import PrecisionName

MODELOPT: Mapping[str, PrecisionName] = {
    "FP8": "fp8",
    "FP8_BLOCK_SCALES": "fp8_block",
    "FP8_PER_CHANNEL_PER_TOKEN": "fp8",
    "W8A16": "int8",
    "W4A16_AWQ": "int4_awq",
    "NVFP4": "nvfp4",
    "W4A16_NVFP4": "w4a16_nvfp4",
    "MXFP8": "mxfp8",
    "W4A8_MXFP4_FP8": "mxfp4",
}
"""ModelOpt's algorithms. Not NVFP4_SVD and mixtures: they are not planned."""

_METHODS: Mapping[str, PrecisionName] = {"mxfp4": "mxfp4", "mxfp8": "mxfp8", "nvfp4": "nvfp4"}


def stored_format(folder: Path, config: Mapping[str, Any]) -> tuple[str, PrecisionName | None]:
    """The name of the format, and its precision if TensorRT-LLM loads it and it can be planned:
    from `hf_quant_config.json`, else from `quantization_config` of `config.json`. TensorRT-LLM does
    not know AWQ and GPTQ of other tools. Raises ModelFileError for a damaged file."""
    file = folder / "hf_quant_config.json"
    if file.is_file():
        quantization = read_object(file).get("quantization")
        algorithm = quantization.get("quant_algo") if isinstance(quantization, dict) else None
        if algorithm:
            return str(algorithm), MODELOPT.get(str(algorithm))
    section = config.get("quantization_config")
    return _of_section(section) if isinstance(section, dict) else ("bf16", "bf16")


def _of_section(section: Mapping[str, Any]) -> tuple[str, PrecisionName | None]:
    method = str(section.get("quant_method"))
    match method:
        case "modelopt":
            algorithm = str(section.get("quant_algo"))
            return algorithm, MODELOPT.get(algorithm)
        case "fp8":
            is_in_blocks = section.get("weight_block_size") is not None
            return method, "fp8_block" if is_in_blocks else "fp8"
        case "compressed-tensors":
            return method, _of_compressed_tensors(section)
    return method, _METHODS.get(method)


def _of_compressed_tensors(section: Mapping[str, Any]) -> PrecisionName | None:
    """The precision of the one group of layers; None for several groups, and for integers."""
    groups = section.get("config_groups")
    found = list(groups.values()) if isinstance(groups, dict) else []
    weights = found[0].get("weights") if len(found) == 1 and isinstance(found[0], dict) else None
    if not isinstance(weights, dict) or weights.get("type") != "float":
        return None
    match weights.get("num_bits"), weights.get("strategy"):
        case 8, "block":
            return "fp8_block"
        case 8, "channel" | "tensor":
            return "fp8"
        case 4, "tensor_group" | "group":
            return "nvfp4" if found[0].get("input_activations") else "w4a16_nvfp4"
    return None


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ModelFileError."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except OSError as error:
        raise ModelFileError(f"{file} cannot be read: {error.strerror or error}") from error
    except msgspec.DecodeError as error:
        raise ModelFileError(f"{file} is not a JSON object: {error}") from error
