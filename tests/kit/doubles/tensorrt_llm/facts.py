"""What is known of TensorRT-LLM's Python API, release by release: one row a fact, one column a
release.

Everything in this package that differs between releases, or that is not certain, is read from
here. `section` is the number under which the fact stands in the project's notes on the API; a
section with a question mark is a guess, and the value is the one that is harder on the caller.
A newer release is one more column: see README.md beside this package.
"""

import os
from typing import Any, NamedTuple

RELEASES = ("1.2", "1.3", "1.4")
VARIABLE = "TENSORRT_LLM_DOUBLE"


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
"""The value of a field that the release does not have."""


class Fact(NamedTuple):
    """`values` holds one value for each of `RELEASES`."""

    name: str
    section: str
    values: tuple[Any, ...]


_LEGACY_ONLY = (True, False, False)
_FROM_1_3 = (False, True, True)
_FROM_1_4 = (False, False, True)

TABLE = (
    Fact("version", "0.1", ("1.2.1", "1.3.0rc29", "1.4.0rc1")),
    # Modules and where names are imported from.
    Fact("has_tensorrt_engine", "8.1", _LEGACY_ONLY),
    Fact(
        "lora_module",
        "11?",
        (
            "tensorrt_llm.lora_helper",
            "tensorrt_llm.lora_helper",
            "tensorrt_llm._torch.peft.lora.config",
        ),
    ),
    # generate_async.
    Fact("generate_async.priority", "2.1", _FROM_1_3),
    Fact("generate_async.conversation_params", "2.1", _FROM_1_4),
    # Fields of the arguments: the default, or ABSENT.
    Fact("TorchLlmArgs.sampler_type", "1.4", ("auto", "auto", ABSENT)),
    Fact("TorchLlmArgs.disable_flashinfer_sampling", "1.4", (False, False, ABSENT)),
    Fact("TorchLlmArgs.enable_sleep", "1.4", (False, False, ABSENT)),
    Fact("TorchLlmArgs.backend", "1.3", (None, "pytorch", "pytorch")),
    Fact("TorchLlmArgs.max_batch_size", "1.3", (None, 2048, 2048)),
    Fact("TorchLlmArgs.max_input_len", "1.3", (None, 1024, 1024)),
    Fact("TorchLlmArgs.max_beam_width", "1.3", (None, 1, 1)),
    Fact("TorchLlmArgs.sleep_config", "11", (ABSENT, ABSENT, None)),
    Fact("TorchLlmArgs.telemetry_config", "11", (ABSENT, ABSENT, None)),
    Fact("TorchLlmArgs.generation_config", "11", (ABSENT, ABSENT, "trtllm")),
    Fact("TorchLlmArgs.encode_only", "11", (ABSENT, ABSENT, False)),
    Fact("TorchLlmArgs.prometheus_metrics_config", "11", (ABSENT, ABSENT, None)),
    Fact("TorchLlmArgs.layer_wise_benchmarks_config", "11", (ABSENT, None, None)),
    Fact("KvCacheConfig.use_kv_cache_manager_v2", "5.1", (ABSENT, False, False)),
    Fact("KvCacheConfig.max_util_for_resume", "5.1", (ABSENT, 0.95, 0.95)),
    Fact("SchedulerConfig.waiting_queue_policy", "5.2", (ABSENT, "fcfs", "fcfs")),
    Fact("CudaGraphConfig.mode", "5.3", (ABSENT, ABSENT, "decode")),
    Fact("NGramDecodingConfig.max_matching_ngram_size", "5.4", (0, 2, 2)),
    Fact("decoding_type_is_field", "5.4", _FROM_1_3),
    Fact("decoding.Lookahead", "5.4", _LEGACY_ONLY),
    Fact("decoding.Medusa", "5.4", _LEGACY_ONLY),
    Fact("decoding.Eagle3", "5.4", _FROM_1_4),
    # SamplingParams.
    Fact("SamplingParams.logprobs_mode", "4.1", (ABSENT, "raw", "raw")),
    Fact("SamplingParams.thinking_token_budget", "4.1", (ABSENT, ABSENT, None)),
    # The sampler.
    Fact("torch_sampler_honours_penalties", "4.4", _FROM_1_4),
    Fact("torch_sampler_honours_seeds", "10.6", _FROM_1_4),
    Fact("stops_despite_ignore_eos", "3.5?", _LEGACY_ONLY),
    Fact("min_tokens_with_ignore_eos_bans_last_token", "4.4", _LEGACY_ONLY),
    Fact("logprobs_0_gives_sampled_token", "3.6", _FROM_1_3),
    Fact("logprobs_always_have_sampled_token", "3.6?", _FROM_1_3),
    Fact("prompt_logprobs_always_have_prompt_token", "3.6", _FROM_1_3),
    Fact("default_seed", "4.1", (None, None, 0)),
    # Results.
    Fact("eos_in_token_ids", "3.5?", (True, True, True)),
    Fact("first_token_at_once", "3.3?", (True, True, True)),
    # Failures.
    Fact("overlong_prompt_raises_request_error", "2.3", (True, True, True)),
    Fact("worker_is_watched", "6.5", _FROM_1_3),
    Fact("loop_says_its_end", "6.5", _FROM_1_3),
    Fact("errors_end_a_result", "3.1", _FROM_1_3),
    Fact("shutdown_blocks_after_crash", "6.3?", _LEGACY_ONLY),
    Fact("failing_processor_fails_all", "6.5?", (True, True, True)),
)

RELEASE = os.environ.get(VARIABLE, RELEASES[0])
if RELEASE not in RELEASES:
    raise ValueError(f"{VARIABLE}={RELEASE!r}: choose one of {', '.join(RELEASES)}")

_COLUMN = {row.name: row.values[RELEASES.index(RELEASE)] for row in TABLE}


def fact(name: str) -> Any:
    """The value of a row for the release that this process plays."""
    return _COLUMN[name]


def default_of(owner: str, field: str, default: Any) -> Any:
    """A field's default, or ABSENT; `default` where the table has no row, as no release differs."""
    return _COLUMN.get(f"{owner}.{field}", default)
