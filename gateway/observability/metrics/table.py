"""Every metric family of the server but the GPUs' (`gpu_metrics`): name, kind, meaning, labels.

docs/metrics.md has the same table for people. Names end as vLLM's do where vLLM has the same
thing; the `gen_ai` ones are OpenTelemetry's GenAI server metrics as Prometheus spells them. A
counter's `_total` is added to its name, as in the exposition format.
"""

from typing import Literal

from msgspec import Struct

PREFIX = "lockgate_"

Kind = Literal["counter", "gauge", "histogram", "info"]


class Family(Struct, frozen=True):
    """One metric. `labels` without `le`."""

    name: str
    kind: Kind
    documentation: str
    labels: tuple[str, ...] = ()


MODEL = ("model_name",)
GENAI = (
    *("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"),
    "gen_ai_response_model",
)


def _counter(name: str, documentation: str, labels: tuple[str, ...] = MODEL) -> Family:
    return Family(PREFIX + name, "counter", documentation, labels)


def _gauge(name: str, documentation: str, labels: tuple[str, ...] = MODEL) -> Family:
    return Family(PREFIX + name, "gauge", documentation, labels)


def _histogram(name: str, documentation: str) -> Family:
    return Family(PREFIX + name, "histogram", documentation, MODEL)


BUILD = Family(PREFIX + "build", "info", "What is running.", ("version",))
ENGINE = Family(
    PREFIX + "engine",
    "info",
    "Which engine serves the model; absent until one was ready.",
    ("model_name", "engine", "version", "device"),
)

RUNNING = _gauge("num_requests_running", "Sequences in the engine's batch.")
WAITING = _gauge("num_requests_waiting", "Sequences that wait for the engine, for any reason.")
WAITING_BY_REASON = _gauge(
    "num_requests_waiting_by_reason",
    "Sequences that wait: for room, for room again, for their grammar.",
    ("model_name", "reason"),
)
IN_FLIGHT = _gauge("num_requests_in_flight", "Sequences submitted and not finished.")
KV_USAGE = _gauge("kv_cache_usage_perc", "Share of KV cells in use, 0 to 1.")
PREFIX_USAGE = _gauge(
    "prefix_cache_usage_perc", "Share of the memory for idle prefixes in use, 0 to 1."
)
READY = _gauge("engine_ready", "1 when requests are taken.")
STATE = _gauge("engine_state", "1 for the state that the engine is in.", ("model_name", "state"))
MAX_RUNNING = _gauge("max_num_seqs", "Most sequences in a batch.")
MAX_WAITING = _gauge("max_num_waiting", "Most sequences that may wait; more are refused.")
KV_TOKENS = _gauge("kv_cache_tokens", "Tokens that the KV cache holds; 0 where nobody says.")
MEMORY = _gauge(
    "process_resident_memory_bytes",
    "Resident memory of the gateway, or of the engine and all that it has started.",
    ("process",),
)

PROMPT_TOKENS = _counter("prompt_tokens", "Prompt tokens of answers that have begun.")
GENERATION_TOKENS = _counter("generation_tokens", "Tokens of answers, as they come.")
CACHED_TOKENS = _counter("prompt_tokens_cached", "Prompt tokens of answers found in the cache.")
ENGINE_PROMPT_TOKENS = _counter("engine_prompt_tokens", "Prompt tokens computed.")
ENGINE_GENERATION_TOKENS = _counter("engine_generation_tokens", "Tokens sampled.")
PREFIX_QUERIES = _counter("prefix_cache_queries", "Prompt tokens looked up in the KV cache.")
PREFIX_HITS = _counter("prefix_cache_hits", "Those that were found there.")
PREEMPTIONS = _counter("num_preemptions", "Sequences sent back to the queue.")
RESUMED = _counter(
    "requests_resumed",
    "Sequences that went on: after they had given way, or in a new engine.",
    ("model_name", "reason"),
)
DRAFT_TOKENS = _counter("spec_decode_num_draft_tokens", "Tokens drafted by speculation.")
ACCEPTED_TOKENS = _counter("spec_decode_num_accepted_tokens", "Those that the model accepted.")
ABORTED = _counter("requests_aborted", "Answers whose client left before the end.")
FAILED = _counter("requests_failed", "Answers that an error ended.")
SUCCESS = _counter("request_success", "Choices completed.", ("model_name", "finished_reason"))
RESTARTS = _counter("engine_restarts", "Engines that were lost and followed by another one.")
REJECTED = _counter(
    "requests_rejected",
    "Requests that the server would not have, by the code of the error: 429 and 503, and those"
    " that keys, limits of time and web origins refuse.",
    ("reason",),
)
HTTP_REQUESTS = _counter(
    "http_requests",
    "HTTP requests by route; status 499 is a client that left.",
    ("endpoint", "model_name", "status", "error"),
)
CPU = _counter(
    "process_cpu_seconds",
    "CPU time of the gateway, or of the engine and all that it has started.",
    ("process",),
)
KEY_REQUESTS = _counter("key_requests", "HTTP requests by key.", ("key",))
KEY_PROMPT_TOKENS = _counter("key_prompt_tokens", "Prompt tokens by key.", ("key",))
KEY_GENERATION_TOKENS = _counter("key_generation_tokens", "Generated tokens by key.", ("key",))

TTFT = _histogram("time_to_first_token_seconds", "Request received to first token.")
INTER_TOKEN = _histogram("inter_token_latency_seconds", "From one token of a choice to its next.")
PER_TOKEN = _histogram(
    "request_time_per_output_token_seconds", "Mean time of a token after the first, by answer."
)
E2E = _histogram("e2e_request_latency_seconds", "Request received to answer complete.")
QUEUE = _histogram("request_queue_time_seconds", "Request received to let into the engine.")
PREFILL = _histogram("request_prefill_time_seconds", "Let into the engine to first token.")
DECODE = _histogram("request_decode_time_seconds", "First token to answer complete.")
INFERENCE = _histogram("request_inference_time_seconds", "Let into the engine to complete.")
ANSWER_PROMPT_TOKENS = _histogram("request_prompt_tokens", "Prompt tokens of an answer.")
ANSWER_TOKENS = _histogram("request_generation_tokens", "Generated tokens of an answer.")
STEP_SECONDS = _histogram("engine_step_seconds", "Time of one step of the engine.")
STEP_TOKENS = _histogram("iteration_tokens_total", "Tokens computed in one step.")
BATCH_SIZE = _histogram("engine_batch_size", "Sequences that got tokens in one step.")
GRAMMAR = _histogram(
    "grammar_compilation_time_seconds", "Time that a request waited for its grammar to compile."
)
GENAI_DURATION = Family(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "gen_ai.server.request.duration: time to answer a request, failed ones included.",
    (*GENAI, "error_type"),
)
GENAI_FIRST_TOKEN = Family(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "gen_ai.server.time_to_first_token: of completed answers.",
    GENAI,
)
GENAI_OUTPUT_TOKEN = Family(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "gen_ai.server.time_per_output_token: after the first, of completed answers.",
    GENAI,
)

FAMILIES: tuple[Family, ...] = tuple(
    value for value in list(globals().values()) if isinstance(value, Family)
)
"""All of the above, in that order."""
