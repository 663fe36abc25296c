"""Adds the field names of transformers 4 to config.json; TensorRT-LLM 1.2 reads it with that.

transformers 5 writes `rope_parameters` where 4 has `rope_theta` and `rope_scaling`, and
`num_local_experts` for Qwen3's `num_experts`. transformers 4 silently takes its defaults for
fields that it does not find.
"""

from typing import Any

Fields = dict[str, Any]

_FACTORS = ("short_factor", "long_factor")


def with_older_names(config: Fields) -> Fields:
    """The same config with the older names added. Existing fields keep their values."""
    return {**_rotation(config.get("rope_parameters")), **_experts(config), **config}


def _experts(config: Fields) -> Fields:
    if config.get("model_type") == "qwen3_moe" and "num_local_experts" in config:
        return {"num_experts": config["num_local_experts"]}
    return {}


def _rotation(parameters: object) -> Fields:
    if not isinstance(parameters, dict):
        return {}
    full = parameters.get("full_attention")
    if not isinstance(full, dict):  # one rotation for all layers
        return _scaled(parameters)
    local = parameters.get("sliding_attention")
    base = local.get("rope_theta") if isinstance(local, dict) else None
    return _scaled(full) | ({} if base is None else {"rope_local_base_freq": base})


def _scaled(parameters: Fields) -> Fields:
    beside = {"rope_theta", "partial_rotary_factor"}
    kind = parameters.get("rope_type", "default")
    if kind == "longrope":
        beside.add("original_max_position_embeddings")
    found = {name: parameters[name] for name in beside if name in parameters}
    if kind == "default":
        return found
    scaling = {name: value for name, value in parameters.items() if name not in beside}
    if kind == "longrope":  # Phi-3's class takes three fields and no others
        scaling = {"type": kind, **{name: scaling.get(name) for name in _FACTORS}}
    return found | {"rope_scaling": scaling}
