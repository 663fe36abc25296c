"""`LLM`: the constructor, `generate_async` and the little around them."""

import atexit
import functools
import inspect
import logging
import time
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..executor.executor import Executor
from ..executor.messages import EngineRequest, WorkerConfig
from ..executor.request import LoRARequest
from ..executor.result import RequestOutput, logprobs_wanted
from ..executor.utils import RequestError
from ..facts import fact
from ..plan import AT_START, read_plan, strikes
from ..sampling_params import SamplingParams
from ..tokenizer import end_token_ids, load_tokenizer, read_json
from .llm_args import arguments, uses_torch_sampler

logger = logging.getLogger("tensorrt_llm")

VOCAB_SIZE = 320
"""Where `config.json` names none."""
MAX_SEQ_LEN = 2048

NOT_PLAYED: dict[str, Any] = {
    "n": 1,
    "best_of": 1,
    "use_beam_search": False,
    "detokenize": False,
    "bad": None,
    "bad_token_ids": None,
    "stop": None,
    "embedding_bias": None,
    "apply_batched_logits_processor": False,
    "no_repeat_ngram_size": None,
    "truncate_prompt_tokens": None,
    "lookahead_config": None,
}
"""Parameters that the package has and no caller here needs, with the only value they may have."""

_START_ERRORS = {
    "out_of_memory": "Executor creation failed due to insufficient GPU memory.",
    "bad_checkpoint": "Executor worker returned error",
}


def _of_release(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method` without the parameters that the release does not have yet."""
    whole = inspect.signature(method)
    optional = ("priority", "conversation_params")
    missing = [name for name in optional if not fact(f"generate_async.{name}")]
    kept = [p for name, p in whole.parameters.items() if name not in missing]
    signature = whole.replace(parameters=kept)

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if args or any(name in kwargs for name in missing):
            kwargs = dict(signature.bind(self, *args, **kwargs).arguments)
            self = kwargs.pop("self")
        return method(self, **kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


class LLM:
    """Loads nothing and speaks by its plan. See the notes' section 1 for the arguments."""

    def __init__(
        self,
        model: str | Path,
        tokenizer: Any = None,
        tokenizer_mode: str = "auto",
        skip_tokenizer_init: bool = False,
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        dtype: str = "auto",
        revision: str | None = None,
        tokenizer_revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        self._executor: Executor | None = None
        self.args = arguments(
            {
                "model": model,
                "tokenizer": tokenizer,
                "tokenizer_mode": tokenizer_mode,
                "skip_tokenizer_init": skip_tokenizer_init,
                "trust_remote_code": trust_remote_code,
                "tensor_parallel_size": tensor_parallel_size,
                "dtype": dtype,
                "revision": revision,
                "tokenizer_revision": tokenizer_revision,
                **kwargs,
            }
        )
        self.llm_id = f"double-{uuid.uuid4().hex[:8]}"
        self._folder = Path(model)
        if not self._folder.is_dir():
            raise FileNotFoundError(f"{model} is not a folder, and the double downloads nothing")
        self._plan = read_plan(self._folder)
        self._tokenizer = None
        if not skip_tokenizer_init:
            self._tokenizer = load_tokenizer(tokenizer if tokenizer is not None else model)
        self._end_ids = end_token_ids(self._folder)
        self._start()

    @property
    def tokenizer(self) -> Any:
        return self._tokenizer

    @_of_release
    def generate_async(
        self,
        inputs: Any,
        sampling_params: Any = None,
        lora_request: Any = None,
        prompt_adapter_request: Any = None,
        streaming: bool = False,
        kv_cache_retention_config: Any = None,
        disaggregated_params: Any = None,
        trace_headers: Any = None,
        _postproc_params: Any = None,
        scheduling_params: Any = None,
        cache_salt: str | None = None,
        priority: float = 0.5,
        conversation_params: Any = None,
    ) -> RequestOutput:
        """Submit one prompt; returns at once. Sections 2.1 to 2.4 of the notes."""
        executor = self._executor
        if executor is None or executor.is_shutdown():
            if executor is not None:
                executor.raise_background_error()
            raise RuntimeError("LLM is shutting down")
        if not 0 <= priority <= 1:
            raise ValueError(f"priority must be in [0, 1], got {priority}")
        if priority != 0.5 and not self._uses_priority:
            logger.warning("priority is ignored: waiting_queue_policy is not 'priority'")
        params = self._prepare(sampling_params)
        token_ids = _token_ids(inputs)
        self._check(token_ids)
        request_id = executor.next_id()
        result = RequestOutput(
            request_id,
            params,
            executor,
            streaming=streaming,
            prompt_token_ids=token_ids,
        )
        executor.submit(
            self._request(
                request_id, token_ids, params, streaming, cache_salt, priority, lora_request
            ),
            result,
        )
        return result

    def get_kv_cache_capacity(self) -> dict[str, int]:
        """How much the KV cache on the GPU holds; known before the first request."""
        assert self._executor is not None
        return self._executor.kv_cache_capacity

    def get_stats(self, timeout: float | None = 2) -> list[dict[str, Any]]:
        """Records of iterations since the last call; needs `enable_iter_perf_stats`."""
        assert self._executor is not None
        return self._executor.stats(timeout or 0)

    def shutdown(self) -> None:
        """May be called twice."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()

    def __del__(self) -> None:
        executor = getattr(self, "_executor", None)
        if executor is not None:
            executor.unblock()  # nobody could let a collector go
            executor.shutdown()

    def _check_health(self) -> bool:
        return self._executor is not None and not self._executor.is_shutdown()

    def _start(self) -> None:
        time.sleep(self._plan.load_ms / 1000)
        for fault in self._plan.faults:
            if fault.kind in AT_START and strikes(fault):
                raise RuntimeError(fault.message or _START_ERRORS[fault.kind])
        config = self._worker_config()
        if config.guided_backend is not None and config.tokenizer is None:
            # The worker asserts that it has a tokenizer, and its end is all that is seen here.
            raise RuntimeError(_START_ERRORS["bad_checkpoint"])
        self._executor = Executor(config, self.args.max_stats_len, self._plan.shutdown_block_s)
        atexit.register(_shutdown_at_exit, weakref.ref(self))

    @property
    def _uses_priority(self) -> bool:
        policy = getattr(self.args.scheduler_config, "waiting_queue_policy", "fcfs")
        return policy == "priority"

    def _worker_config(self) -> WorkerConfig:
        args, plan = self.args, self._plan
        config = read_json(self._folder / "config.json")
        max_seq_len = args.max_seq_len or config.get("max_position_embeddings") or MAX_SEQ_LEN
        kv = args.kv_cache_config
        old_sampler = not uses_torch_sampler(args)
        return WorkerConfig(
            plan=msgspec.json.encode(plan),
            vocab_size=plan.vocab_size or config.get("vocab_size") or VOCAB_SIZE,
            eos_token_id=self._end_ids[0] if self._end_ids else None,
            max_batch_size=args.max_batch_size,
            max_num_tokens=args.max_num_tokens,
            max_seq_len=max_seq_len,
            num_kv_tokens=kv.max_tokens or plan.kv_tokens or max_seq_len * args.max_batch_size,
            tokens_per_block=kv.tokens_per_block,
            enable_block_reuse=kv.enable_block_reuse,
            reserve_whole=args.scheduler_config.capacity_scheduler_policy != "MAX_UTILIZATION",
            chunked_prefill=args.enable_chunked_prefill,
            stream_interval=args.stream_interval,
            iter_stats=args.enable_iter_perf_stats,
            use_priority=self._uses_priority,
            honours_penalties=old_sampler or fact("torch_sampler_honours_penalties"),
            logprobs_have_sampled_token=fact("logprobs_always_have_sampled_token"),
            prompt_logprobs_have_prompt_token=fact("prompt_logprobs_always_have_prompt_token"),
            eos_in_token_ids=_or(plan.eos_in_token_ids, fact("eos_in_token_ids")),
            first_token_at_once=fact("first_token_at_once"),
            failing_processor_fails_all=fact("failing_processor_fails_all"),
            loop_says_its_end=fact("loop_says_its_end"),
            honours_seeds=old_sampler or fact("torch_sampler_honours_seeds"),
            stops_despite_ignore_eos=fact("stops_despite_ignore_eos"),
            overlap_scheduler=not args.disable_overlap_scheduler,
            guided_backend=args.guided_decoding_backend,
            tokenizer=self._tokenizer_source(),
        )

    def _tokenizer_source(self) -> str | None:
        if self._tokenizer is None:
            return None
        return getattr(self._tokenizer, "name_or_path", str(self._folder))

    def _prepare(self, params: Any) -> Any:
        """Set the parameters up, in place, so that the caller's object changes."""
        if params is None:
            params = SamplingParams()
        if not isinstance(params, SamplingParams):
            raise TypeError(
                f"The sampling_params must be type SamplingParams or None, but got {type(params)}"
            )
        if params.end_id is None:
            if self._tokenizer is None:
                raise ValueError("tokenizer is required to reset end_id if it is None")
            params._setup(self._tokenizer, self._end_ids)
        _check_is_played(params)
        return params

    def _check(self, token_ids: list[int]) -> None:
        args = self.args
        if not args.enable_chunked_prefill and len(token_ids) > args.max_num_tokens:
            raise RequestError(
                f"The sum of prompt length ({len(token_ids)}) and query length (0) should not "
                f"exceed max_num_tokens ({args.max_num_tokens})"
            )

    def _request(
        self,
        client_id: int,
        token_ids: list[int],
        params: Any,
        streaming: bool,
        cache_salt: str | None,
        priority: float,
        lora_request: LoRARequest | None,
    ) -> EngineRequest:
        processors = params.logits_processor
        if processors is not None and not isinstance(processors, list):
            processors = [processors]
        return EngineRequest(
            client_id=client_id,
            prompt_token_ids=token_ids,
            max_tokens=params.max_tokens,
            end_id=-1 if params.ignore_eos else params.end_id,
            streaming=streaming,
            stop_token_ids=tuple(params.stop_token_ids or ()),
            min_tokens=params.min_tokens or 0,
            greedy=params._greedy_decoding,
            seed=_or(params.seed, fact("default_seed")) or 0,
            temperature=_or(params.temperature, 1.0),
            top_k=params.top_k or 0,
            top_p=_or(params.top_p, 1.0),
            min_p=params.min_p or 0.0,
            repetition_penalty=_or(params.repetition_penalty, 1.0),
            presence_penalty=params.presence_penalty or 0.0,
            frequency_penalty=params.frequency_penalty or 0.0,
            prompt_ignore_length=params.prompt_ignore_length or 0,
            ban_last_token=fact("min_tokens_with_ignore_eos_bans_last_token"),
            logprobs=logprobs_wanted(params),
            prompt_logprobs=params.prompt_logprobs or 0,
            logits_processors=tuple(processors or ()),
            guide=_guide(params.guided_decoding),
            cache_salt=cache_salt,
            priority=priority,
            adapter="" if lora_request is None else lora_request.name,
        )


def _token_ids(inputs: Any) -> list[int]:
    if isinstance(inputs, dict) and "prompt_token_ids" in inputs:
        inputs = inputs["prompt_token_ids"]
    if isinstance(inputs, list) and all(isinstance(token, int) for token in inputs):
        return inputs
    raise TypeError(f"The inputs must be a list of int, but got {type(inputs)} of {inputs!r:.80}")


def _check_is_played(params: Any) -> None:
    for name, default in NOT_PLAYED.items():
        if getattr(params, name) != default:
            raise NotImplementedError(f"the double does not play `{name}`")


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def _guide(guided: Any) -> tuple[str, Any] | None:
    if guided is None:
        return None
    for name in ("json", "regex", "grammar", "structural_tag"):
        if getattr(guided, name):
            return name, getattr(guided, name)
    return ("json_object", None) if guided.json_object else None


if not fact("get_kv_cache_capacity"):
    del LLM.get_kv_cache_capacity


def _shutdown_at_exit(reference: "weakref.ref[LLM]") -> None:
    llm = reference()
    if llm is not None:
        llm.shutdown()
