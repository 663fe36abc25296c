"""Reads how a checkpoint is packed from config.json."""

from pathlib import Path
from typing import Any

from msgspec import Struct

from convert.source.packing import Packing
from runtime.errors import ModelFileError
from runtime.models.hf_folder import CONFIG_FILE, check_fields, read_fields
from runtime.planning.stored_format import stored_format

_LEGACY_FILE = "quantize_config.json"
_BITS = {"awq": (4,), "gptq": (4, 8)}
_ADVICE = "known are AWQ of 4 bits, GPTQ of 4 and 8, and checkpoints that are not quantized"


class _Quantization(Struct):
    quant_method: str | None = None
    bits: int | None = None
    group_size: int | None = None
    version: str | None = None
    checkpoint_format: str | None = None
    is_marlin_format: bool | None = None
    dynamic: dict[str, dict[str, Any]] | None = None


def read_packing(folder: Path, config: dict[str, Any]) -> Packing | None:
    """The packing of `quantization_config`, or of AutoGPTQ's older quantize_config.json.

    None for a checkpoint that is not quantized. Raises ModelFileError, naming file and field, for
    any other quantization.
    """
    name, precision = stored_format(folder, config)
    if precision not in (None, "bf16"):
        raise ModelFileError(
            f"{folder}: the weights are {name} already, which TensorRT-LLM loads as they are: no"
            " conversion is needed."
        )
    if (folder / "hf_quant_config.json").is_file():
        raise ModelFileError(f"{folder / 'hf_quant_config.json'}: is quantized already; {_ADVICE}.")
    path, section = folder / CONFIG_FILE, config.get("quantization_config")
    if section is not None:
        return _packing(path, check_fields(path, section, _Quantization))
    path = folder / _LEGACY_FILE
    if path.is_file():
        fields = read_fields(path, _Quantization)
        fields.quant_method = fields.quant_method or "gptq"
        return _packing(path, fields)
    return None


def _packing(path: Path, fields: _Quantization) -> Packing:
    method = fields.quant_method
    if method != "awq" and method != "gptq":
        raise _refusal(path, "quant_method", method)
    bits = fields.bits
    if bits is None or bits not in _BITS[method]:
        raise _refusal(path, "bits", bits)
    group_size = fields.group_size
    if group_size is None or not (group_size == -1 or 0 < group_size < 1 << 24):
        raise ModelFileError(f"{path}: `group_size` is {group_size}.")
    if method == "awq":
        if (fields.version or "gemm").lower() != "gemm":
            raise _refusal(path, "version", fields.version)
        return Packing("awq", group_size)
    form = "marlin" if fields.is_marlin_format else fields.checkpoint_format or "gptq"
    if form not in ("gptq", "gptq_v2"):
        raise _refusal(path, "checkpoint_format", form)
    _check_dynamic(path, fields)
    return Packing("gptq", group_size, zero_offset=1 if form == "gptq" else 0, bits=bits)


def _check_dynamic(path: Path, fields: _Quantization) -> None:
    """Raises ModelFileError if `dynamic`, GPTQModel's exceptions by module, gives a module other
    bits or another group size. A module that was skipped (`-:`) is fine: it has a plain weight."""
    for module, exception in (fields.dynamic or {}).items():
        for field, value in (("bits", fields.bits), ("group_size", fields.group_size)):
            if not module.startswith("-:") and exception.get(field, value) != value:
                raise _refusal(path, f"dynamic[{module!r}].{field}", exception[field])


def _refusal(path: Path, field: str, value: object) -> ModelFileError:
    return ModelFileError(f"{path}: `{field}` is {value!r}; {_ADVICE}.")
