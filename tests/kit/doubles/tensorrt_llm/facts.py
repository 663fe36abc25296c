"""What is known of TensorRT-LLM's Python API, release by release: one row a fact, one column a
release.

Everything in this package that differs between releases, or that is not certain, is read from
here. A newer release is one more column: see README.md beside this package.
"""

import os
from typing import Any, NamedTuple

RELEASES = ("1.2.1", "1.3.0rc15", "1.3.0rc29")
"""The stable release; a candidate of May 2026, before most of what 1.3 changes; a late one, which
stands for 1.3.0rc26 to 1.4.0rc1."""
VARIABLE = "TENSORRT_LLM_DOUBLE"


class _Absent:
    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = _Absent()
"""The value of a field that the release does not have."""


class Fact(NamedTuple):
    """`values` holds one value for each of `RELEASES`. `issues` are public issues and pull requests
    of TensorRT-LLM that tell of the fact or change it. Where `is_sure` is false, the value is a
    guess, and the one that is harder on the caller."""

    name: str
    values: tuple[Any, ...]
    issues: tuple[int, ...] = ()
    is_sure: bool = True


_ALWAYS = (True, True, True)
_UNTIL_EARLY = (True, True, False)
_STABLE_ONLY = (True, False, False)
_FROM_EARLY = (False, True, True)
_LATE_ONLY = (False, False, True)

TABLE = (
    # Modules and where names are imported from.
    Fact("has_tensorrt_engine", _UNTIL_EARLY, (15918,)),
    Fact(
        "lora_module",
        (
            "tensorrt_llm.lora_helper",
            "tensorrt_llm.lora_helper",
            "tensorrt_llm._torch.peft.lora.config",
        ),
        is_sure=False,
    ),
    Fact("has_engine_dead_error", _LATE_ONLY, (15816,)),
    # Methods of the LLM.
    Fact("get_kv_cache_capacity", _LATE_ONLY, (15385,)),
    Fact("generate_async.priority", _FROM_EARLY, (12362,)),
    Fact("generate_async.conversation_params", _LATE_ONLY),
    # Fields of the arguments: the default, or ABSENT.
    Fact("TorchLlmArgs.sampler_type", ("auto", "auto", ABSENT), (11938,)),
    Fact("TorchLlmArgs.disable_flashinfer_sampling", (False, False, ABSENT)),
    Fact("TorchLlmArgs.enable_sleep", (False, False, ABSENT)),
    Fact("TorchLlmArgs.backend", (None, "pytorch", "pytorch")),
    Fact("TorchLlmArgs.max_batch_size", (None, 2048, 2048)),
    Fact("TorchLlmArgs.max_input_len", (None, 1024, 1024)),
    Fact("TorchLlmArgs.max_beam_width", (None, 1, 1)),
    Fact("TorchLlmArgs.sleep_config", (ABSENT, ABSENT, None)),
    Fact("TorchLlmArgs.telemetry_config", (ABSENT, None, None), (12384,), is_sure=False),
    Fact("TorchLlmArgs.generation_config", (ABSENT, ABSENT, "trtllm")),
    Fact("TorchLlmArgs.encode_only", (ABSENT, ABSENT, False)),
    Fact("TorchLlmArgs.prometheus_metrics_config", (ABSENT, ABSENT, None)),
    Fact("TorchLlmArgs.layer_wise_benchmarks_config", (ABSENT, None, None)),
    Fact("KvCacheConfig.use_kv_cache_manager_v2", (ABSENT, False, "auto")),
    Fact("KvCacheConfig.max_util_for_resume", (ABSENT, 0.95, 0.95)),
    Fact("SchedulerConfig.waiting_queue_policy", (ABSENT, "fcfs", "fcfs"), (12362,)),
    Fact("CudaGraphConfig.mode", (ABSENT, ABSENT, "decode")),
    Fact("NGramDecodingConfig.max_matching_ngram_size", (0, 2, 2)),
    Fact("decoding_type_is_field", _FROM_EARLY),
    Fact("decoding.Lookahead", _UNTIL_EARLY, (15918,)),
    Fact("decoding.Medusa", _UNTIL_EARLY, (15918,)),
    Fact("decoding.Eagle3", _FROM_EARLY),
    # SamplingParams.
    Fact("SamplingParams.logprobs_mode", (ABSENT, "raw", "raw")),
    Fact("SamplingParams.thinking_token_budget", (ABSENT, ABSENT, None)),
    # The sampler.
    Fact("torch_sampler_honours_penalties", _LATE_ONLY, (16052, 16485, 16594)),
    Fact("torch_sampler_honours_seeds", _LATE_ONLY, (17172, 17599)),
    Fact("default_seed", (None, None, 0)),
    Fact("stops_despite_ignore_eos", _STABLE_ONLY, (12358,), is_sure=False),
    Fact("min_tokens_with_ignore_eos_bans_last_token", _STABLE_ONLY),
    Fact("logprobs_0_gives_sampled_token", _FROM_EARLY),
    Fact("logprobs_always_have_sampled_token", _FROM_EARLY, is_sure=False),
    Fact("prompt_logprobs_always_have_prompt_token", _FROM_EARLY, (11866,)),
    # Results.
    Fact("eos_in_token_ids", _ALWAYS, is_sure=False),
    Fact("first_token_at_once", _ALWAYS, is_sure=False),
    # Failures.
    Fact("errors_end_a_result", _FROM_EARLY),
    Fact("overlong_prompt_raises_request_error", _ALWAYS),
    Fact("loop_says_its_end", _FROM_EARLY, (12735,)),
    Fact("worker_is_watched", _LATE_ONLY, (12718, 15816, 16338)),
    Fact("shutdown_blocks_after_crash", _UNTIL_EARLY, (16312,)),
    Fact("failing_processor_fails_all", _ALWAYS, is_sure=False),
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
