"""Converts settings to arguments of the package's constructor.

Each argument that this project sets is here once, with its setting. An argument that the installed
release lacks is left out if the setting has its default, and refused with the setting's path if the
user has set it (docs/tensorrt-llm-contract.md, 10.2).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

from runtime.config.engine import EngineConfig
from runtime.config.tensorrt_llm import (
    DraftTargetSpeculation,
    Eagle3Speculation,
    LoRAConfig,
    MTPSpeculation,
    NGramSpeculation,
    Speculation,
    TensorRTConfig,
)
from runtime.engines.tensorrt_llm.setup.checkpoint import Checkpoint
from runtime.engines.tensorrt_llm.setup.package import Package, fields_of, find_class
from runtime.errors import SetupError

SECTION = "engine.tensorrt_llm"
EXTRA = f"{SECTION}.extra"

DEFAULT_MAX_NUM_TOKENS = 8192
"""Tokens of a step: the package's own default (docs/tensorrt-llm-contract.md, 1.3)."""

DEFAULT_MAX_MODEL_LEN = 32_768
"""Tokens of a sequence if neither the settings nor the model's folder give a length."""

DEFAULT_MEMORY_FRACTION = 0.9
"""The package's own default (docs/tensorrt-llm-contract.md, 5.1)."""

_OWNED = {
    "model": "model.name_or_path",
    "tokenizer": "model.name_or_path",
    "skip_tokenizer_init": "",
    "backend": "",
    "num_postprocess_workers": "",
    "postprocess_tokenizer_dir": "",
    "gather_generation_logits": "",
    "generation_config": "",
}
"""Arguments that `extra` must not set, and the settings to use instead, "" for none. The engine
sets the model; it relies on the defaults of the others. A `generation_config` would fill in what a
request leaves out, behind the gateway's back."""


class Option(NamedTuple):
    """One argument: its value, and the path of its setting. `is_set` says that the setting is not
    at its default, or that the engine cannot do without the argument."""

    value: Any
    path: str
    is_set: bool = False


class Section(NamedTuple):
    """An argument that is an object of the package. Its class is the first of `classes` that the
    release has."""

    classes: tuple[str, ...]
    options: Mapping[str, Option]


Arguments: TypeAlias = dict[str, Option | Section]


class Sizes(NamedTuple):
    """The engine's limits: tokens of a sequence, sequences at once, tokens of a step."""

    max_model_len: int
    max_num_seqs: int
    max_num_tokens: int


def find_sizes(config: EngineConfig, checkpoint: Checkpoint, model_len: int) -> Sizes:
    """The sizes that follow from the settings and the model's folder. `model_len` is the model's
    own context in tokens, 0 if the folder does not say.

    Raises SetupError if a step has fewer tokens than there are sequences, and if TensorRT engines
    were built for less than the settings ask for.
    """
    num_tokens = _max_num_tokens(config, checkpoint)
    if num_tokens < config.max_num_seqs:
        raise SetupError(
            f"{SECTION}.max_num_tokens is {num_tokens}, less than engine.max_num_seqs, which is"
            f" {config.max_num_seqs}: every running sequence gets a token in every step. Raise the"
            " one or lower the other."
        )
    if checkpoint.built is not None:
        _check_built("engine.max_num_seqs", config.max_num_seqs, checkpoint.built.max_batch_size)
    return Sizes(_max_model_len(config, checkpoint, model_len), config.max_num_seqs, num_tokens)


def _max_num_tokens(config: EngineConfig, checkpoint: Checkpoint) -> int:
    if checkpoint.built is not None:
        return checkpoint.built.max_num_tokens
    wanted = config.tensorrt_llm.max_num_tokens
    return max(DEFAULT_MAX_NUM_TOKENS, config.max_num_seqs) if wanted == "auto" else wanted


def _max_model_len(config: EngineConfig, checkpoint: Checkpoint, model_len: int) -> int:
    built = checkpoint.built
    if config.max_model_len == "auto":
        return built.max_seq_len if built else model_len or DEFAULT_MAX_MODEL_LEN
    if built is not None:
        _check_built("engine.max_model_len", config.max_model_len, built.max_seq_len)
    return config.max_model_len


def build_arguments(
    config: EngineConfig, checkpoint: Checkpoint, sizes: Sizes, package: Package
) -> dict[str, Any]:
    """Keyword arguments for the package's `LLM`. Raises SetupError, which names the setting."""
    arguments = _arguments(config, package)
    if checkpoint.built is None:
        arguments |= _sizes(sizes)
    sections, plain_extra = _split_extra(config.tensorrt_llm.extra, arguments)
    made = {"model": str(checkpoint.folder)}
    for name, argument in arguments.items():
        if isinstance(argument, Option):
            options = _present({name: argument}, package.arguments, package)
            made |= options
        elif name in package.arguments:
            made[name] = _make(argument, sections.get(name, {}), f"{EXTRA}.{name}", package)
        else:
            _present(argument.options, frozenset(), package)
    return made | _checked_extra(plain_extra, package)


def _arguments(config: EngineConfig, package: Package) -> Arguments:
    settings = config.tensorrt_llm
    arguments: Arguments = {
        "kv_cache_config": _kv_cache(config, package),
        "scheduler_config": _scheduler(settings, package),
        "enable_iter_perf_stats": Option(True, SECTION),
        **_plain(settings),
        **_cuda_graphs(config),
        **_speculative(settings.speculative),
        **_lora(settings.lora),
    }
    if settings.guided_decoding_backend != "off":
        path = f"{SECTION}.guided_decoding_backend"
        # Without it the package silently ignores a request's grammar
        # (docs/tensorrt-llm-contract.md, 4.6).
        arguments["guided_decoding_backend"] = Option(settings.guided_decoding_backend, path, True)
    return arguments


def _plain(settings: TensorRTConfig) -> Arguments:
    names = (
        "dtype",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "enable_chunked_prefill",
        "disable_overlap_scheduler",
        "trust_remote_code",
    )
    plain: Arguments = {name: _option(settings, name) for name in names}
    if settings.sampler == "trtllm":
        plain["sampler_type"] = Option("TRTLLMSampler", f"{SECTION}.sampler", True)
    return plain


def _option(settings: TensorRTConfig, name: str) -> Option:
    value = getattr(settings, name)
    return Option(value, f"{SECTION}.{name}", value != getattr(TensorRTConfig(), name))


def _sizes(sizes: Sizes) -> Arguments:
    """The arguments for sizes. All are set, because the package's defaults are for other machines
    (docs/tensorrt-llm-contract.md, 10.3)."""
    return {
        "max_seq_len": Option(sizes.max_model_len, "engine.max_model_len", True),
        "max_input_len": Option(sizes.max_model_len, "engine.max_model_len"),
        "max_batch_size": Option(sizes.max_num_seqs, "engine.max_num_seqs", True),
        "max_num_tokens": Option(sizes.max_num_tokens, f"{SECTION}.max_num_tokens", True),
        "max_beam_width": Option(1, SECTION),
    }


def _kv_cache(config: EngineConfig, package: Package) -> Section:
    settings = config.tensorrt_llm.kv_cache
    path = f"{SECTION}.kv_cache"
    fraction = settings.free_gpu_memory_fraction
    if fraction == "auto":
        fraction = DEFAULT_MEMORY_FRACTION
    options = {
        "free_gpu_memory_fraction": Option(fraction, f"{path}.free_gpu_memory_fraction", True),
        "enable_block_reuse": Option(
            _reuses_blocks(config, package), f"{path}.enable_block_reuse", True
        ),
    }
    if settings.dtype != "auto":
        options["dtype"] = Option(settings.dtype, f"{path}.dtype", True)
    if settings.max_attention_window:
        windows = list(settings.max_attention_window)
        options["max_attention_window"] = Option(windows, f"{path}.max_attention_window", True)
    if settings.host_cache_gb:
        num_bytes = round(settings.host_cache_gb * 1e9)
        options["host_cache_size"] = Option(num_bytes, f"{path}.host_cache_gb", True)
    if config.num_kv_tokens != "auto":
        options["max_tokens"] = Option(config.num_kv_tokens, "engine.num_kv_tokens", True)
    return Section(("KvCacheConfig",), options)


def _reuses_blocks(config: EngineConfig, package: Package) -> bool:
    """Whether the KV cache reuses blocks. Only cache salts keep tenants apart: in a release without
    them, "per_tenant" means no reuse. Raises SetupError if the settings contradict each other."""
    reuse = config.tensorrt_llm.kv_cache.enable_block_reuse
    may_reuse = config.prefix_caching in ("auto", "shared") or (
        config.prefix_caching == "per_tenant" and "cache_salt" in package.generate_parameters
    )
    if reuse is True and not may_reuse:
        raise SetupError(
            f"{SECTION}.kv_cache.enable_block_reuse is true, which engine.prefix_caching"
            f' "{config.prefix_caching}" forbids here. Change one of them.'
        )
    return may_reuse if reuse == "auto" else reuse


def _scheduler(settings: TensorRTConfig, package: Package) -> Section:
    policy = _option(settings, "scheduler_policy")
    options = {"capacity_scheduler_policy": policy}
    if package.has_priority:
        options["waiting_queue_policy"] = Option("priority", SECTION)
    return Section(("SchedulerConfig",), options)


def _cuda_graphs(config: EngineConfig) -> Arguments:
    settings = config.tensorrt_llm.cuda_graphs
    path = f"{SECTION}.cuda_graphs"
    if not settings.enabled:
        return {"cuda_graph_config": Option(None, f"{path}.enabled", True)}
    options = {"enable_padding": Option(settings.padding, f"{path}.padding", not settings.padding)}
    if settings.batch_sizes:  # the package accepts either these or the largest one
        sizes = list(settings.batch_sizes)
        options["batch_sizes"] = Option(sizes, f"{path}.batch_sizes", True)
    else:
        options["max_batch_size"] = Option(config.max_num_seqs, "engine.max_num_seqs")
    return {"cuda_graph_config": Section(("CudaGraphConfig", "DecodeCudaGraphConfig"), options)}


def _speculative(settings: Speculation) -> Arguments:
    """The argument for speculation. It is an object and not a dictionary, because the key that
    names the kind differs between releases (docs/tensorrt-llm-contract.md, 5.4)."""
    match settings:
        case NGramSpeculation():
            classes: tuple[str, ...] = ("NGramDecodingConfig",)
            values: dict[str, Any] = {
                "max_draft_len": settings.max_draft_len,
                "max_matching_ngram_size": settings.max_matching_ngram_size,
            }
        case Eagle3Speculation():
            classes = ("Eagle3DecodingConfig", "EagleDecodingConfig")
            values = _draft_model(classes, settings.model, settings.max_draft_len)
            values["eagle3_one_model"] = settings.one_model
        case DraftTargetSpeculation():
            classes = ("DraftTargetDecodingConfig",)
            values = _draft_model(classes, settings.model, settings.max_draft_len)
        case MTPSpeculation():
            classes = ("MTPDecodingConfig",)
            values = {"num_nextn_predict_layers": settings.num_nextn_predict_layers}
        case _:
            return {}
    path = f"{SECTION}.speculative"
    options = {name: Option(value, path, True) for name, value in values.items()}
    return {"speculative_config": Section(classes, options)}


def _draft_model(classes: tuple[str, ...], model: str, max_draft_len: int) -> dict[str, Any]:
    has_short_name = "speculative_model" in fields_of(find_class(*classes))
    name = "speculative_model" if has_short_name else "speculative_model_dir"
    return {name: model, "max_draft_len": max_draft_len}


def _lora(settings: LoRAConfig) -> Arguments:
    if not settings.adapters:
        return {}
    path = f"{SECTION}.lora"
    options = {
        "lora_dir": Option(list(settings.adapters.values()), f"{path}.adapters", True),
        "max_lora_rank": Option(settings.max_rank, f"{path}.max_rank", True),
        "max_loras": Option(settings.max_loaded, f"{path}.max_loaded", True),
    }
    return {
        "enable_lora": Option(True, f"{path}.adapters"),
        "lora_config": Section(("LoraConfig",), options),
    }


def _make(section: Section, extra: Mapping[str, Any], extra_path: str, package: Package) -> Any:
    """Makes the object of the package, with the entries of `extra` added. Raises SetupError."""
    kind = find_class(*section.classes)
    known = fields_of(kind)
    values = _present(section.options, known, package)
    for name, value in extra.items():
        if name in section.options:
            raise SetupError(_has_setting(f"{extra_path}.{name}", section.options[name].path))
        if name not in known:
            raise SetupError(_lacks(f"{extra_path}.{name}", name, package))
        values[name] = value
    paths = sorted({option.path for option in section.options.values()} | {extra_path})
    try:
        return kind(**values)
    except (ValueError, TypeError) as error:
        raise SetupError(f"TensorRT-LLM refuses {', '.join(paths)}: {error}") from error


def _present(
    options: Mapping[str, Option], known: frozenset[str], package: Package
) -> dict[str, Any]:
    for name, option in options.items():
        if name not in known and option.is_set:
            raise SetupError(_lacks(option.path, name, package))
    return {name: option.value for name, option in options.items() if name in known}


def _split_extra(
    extra: Mapping[str, Any], arguments: Arguments
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The entries of `extra` that extend our sections, and the entries that stand alone."""
    sections: dict[str, dict[str, Any]] = {}
    plain: dict[str, Any] = {}
    for name, value in extra.items():
        argument = arguments.get(name)
        if isinstance(argument, Section) and isinstance(value, dict):
            sections[name] = value
        elif isinstance(argument, Option):
            raise SetupError(_has_setting(f"{EXTRA}.{name}", argument.path))
        elif argument is not None:
            raise SetupError(f"{EXTRA}.{name}: expected a table, got {value!r}")
        else:
            plain[name] = value
    return sections, plain


def _checked_extra(extra: Mapping[str, Any], package: Package) -> dict[str, Any]:
    for name in extra:
        if name in _OWNED:
            raise SetupError(_has_setting(f"{EXTRA}.{name}", _OWNED[name]))
        if name not in package.arguments:
            raise SetupError(_lacks(f"{EXTRA}.{name}", name, package))
    return dict(extra)


def _has_setting(path: str, setting: str) -> str:
    if setting and setting != SECTION:
        return f"{path} has a setting of its own: {setting}"
    return f"{path} cannot be set: the engine relies on its value"


def _lacks(path: str, name: str, package: Package) -> str:
    return (
        f"{path}: the installed TensorRT-LLM {package.version} has no `{name}`."
        " Remove the setting, or install a release that has it."
    )


def _check_built(path: str, wanted: int, built: int) -> None:
    if wanted > built:
        raise SetupError(
            f"{path} is {wanted}, and the TensorRT engines of this model were built for {built}."
            " Lower it, or build them anew."
        )
