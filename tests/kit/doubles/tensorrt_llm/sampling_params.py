"""`SamplingParams`, `GuidedDecodingParams` and the logits processors' base classes."""

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .facts import ABSENT, default_of
from .tensor import Tensor, as_float_tensor


@dataclass(slots=True, kw_only=True)
class GuidedDecodingParams:
    """At most one guide."""

    json: Any = None
    regex: str | None = None
    grammar: str | None = None
    json_object: bool = False
    structural_tag: str | None = None

    def _validate(self) -> None:
        guides = (self.json, self.regex, self.grammar, self.structural_tag)
        if sum(guide is not None for guide in guides) + bool(self.json_object) > 1:
            raise ValueError("Only one guide can be used for a request, but got several guides.")


class LogitsProcessor(ABC):
    """Edits `logits`, of shape [1, 1, vocab], in place, once for each token."""

    @abstractmethod
    def __call__(
        self,
        req_id: int,
        logits: Tensor,
        token_ids: list[list[int]],
        stream_ptr: int | None,
        client_id: int | None,
    ) -> None: ...


class BatchedLogitsProcessor(ABC):
    """The same for all requests that have `apply_batched_logits_processor`."""

    @abstractmethod
    def __call__(
        self,
        req_ids: list[int],
        logits: list[Tensor],
        token_ids: list[list[list[int]]],
        stream_ptr: int | None,
        client_ids: list[int | None],
    ) -> None: ...


@dataclass(slots=True, kw_only=True)
class _SamplingParams:
    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int | None = 32
    bad: str | list[str] | None = None
    bad_token_ids: list[int] | None = None
    _bad_word_ids: list[list[int]] | None = field(default=None, init=False, repr=False)
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    _stop_word_ids: list[list[int]] | None = field(default=None, init=False, repr=False)
    embedding_bias: Any = None
    logits_processor: LogitsProcessor | list[LogitsProcessor] | None = None
    apply_batched_logits_processor: bool = False
    n: int = 1
    best_of: int | None = None
    use_beam_search: bool = False
    top_k: int | None = None
    top_p: float | None = None
    top_p_min: float | None = None
    top_p_reset_ids: int | None = None
    top_p_decay: float | None = None
    seed: int | None = None
    temperature: float | None = None
    min_tokens: int | None = None
    beam_search_diversity_rate: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    prompt_ignore_length: int | None = None
    length_penalty: float | None = None
    early_stopping: int | None = None
    no_repeat_ngram_size: int | None = None
    min_p: float | None = None
    beam_width_array: list[int] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    return_context_logits: bool = False
    return_generation_logits: bool = False
    exclude_input_from_output: bool = True
    return_encoder_output: bool = False
    return_perf_metrics: bool = False
    additional_model_outputs: list[Any] | None = None
    _need_return_context_logits: bool = field(default=False, init=False, repr=False)
    _stream_interval: int | None = field(default=None, init=False, repr=False)
    lookahead_config: Any = None
    guided_decoding: GuidedDecodingParams | None = None
    ignore_eos: bool = False
    detokenize: bool = True
    add_special_tokens: bool = True
    truncate_prompt_tokens: int | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True

    def __post_init__(self) -> None:
        if self.pad_id is None:
            self.pad_id = self.end_id
        self.best_of = self.best_of or self.n
        if self.embedding_bias is not None:
            self.embedding_bias = as_float_tensor(self.embedding_bias)
        self.logprobs = None if self.logprobs is None else int(self.logprobs)
        self.prompt_logprobs = None if self.prompt_logprobs is None else int(self.prompt_logprobs)
        self._validate()

    def _validate(self) -> None:
        _check_ranges(self)
        if self.best_of < self.n:
            raise ValueError(f"require best_of >= n, but got {self.best_of} and {self.n}")
        allowed = os.environ.get("TLLM_ALLOW_N_GREEDY_DECODING")
        if self.best_of > 1 and self._greedy_decoding and not allowed:
            raise ValueError(
                f"Greedy decoding in the LLM API does not allow multiple returns. Please set to "
                f"best_of=1, got best_of={self.best_of}."
            )
        if self.truncate_prompt_tokens is not None and self.truncate_prompt_tokens < 1:
            raise ValueError(
                f"require truncate_prompt_tokens >= 1, got {self.truncate_prompt_tokens}"
            )
        if self.guided_decoding is not None:
            self.guided_decoding._validate()

    @property
    def _greedy_decoding(self) -> bool:
        if self.use_beam_search:
            return False
        nothing = self.temperature is None and self.top_p is None and self.top_k is None
        return nothing or self.top_k == 1 or self.top_p == 0 or self.temperature == 0

    def _setup(self, tokenizer: Any, extra_eos_ids: Sequence[int] = ()) -> "_SamplingParams":
        """What a tokenizer knows: the end id, the ids of words, the other end ids of the model."""
        self.end_id = tokenizer.eos_token_id
        if self.pad_id is None:
            pad = getattr(tokenizer, "pad_token_id", None)
            self.pad_id = self.end_id if pad is None else pad
        self._bad_word_ids = [_encode(tokenizer, word) for word in _words(self.bad)]
        self._stop_word_ids = [_encode(tokenizer, word) for word in _words(self.stop)]
        if not self.ignore_eos:
            known = self.stop_token_ids or []
            more = [t for t in extra_eos_ids if t != self.end_id and t not in known]
            if more:
                self.stop_token_ids = [*known, *more]
        return self

    def _get_bad_words(self) -> list[list[int]]:
        return _word_ids("bad", self.bad, self._bad_word_ids, self.bad_token_ids)

    def _get_stop_words(self) -> list[list[int]]:
        return _word_ids("stop", self.stop, self._stop_word_ids, self.stop_token_ids)

    def _get_stop_reasons_and_words(self) -> list[tuple[int | str, list[int]]]:
        reasons = [*(self.stop_token_ids or ()), *_words(self.stop)]
        return list(zip(reasons, self._get_stop_words(), strict=True))


def _check_ranges(params: _SamplingParams) -> None:
    if params.top_p is not None and not 0 <= params.top_p <= 1:
        raise ValueError(f"require 0 <= top_p <= 1, got top_p={params.top_p}")
    if params.top_k is not None and params.top_k < 0:
        raise ValueError(f"require top_k >= 0, got top_k={params.top_k}")
    if params.temperature is not None and params.temperature < 0:
        raise ValueError(f"require temperature >= 0, got temperature={params.temperature}")


def _words(words: str | list[str] | None) -> list[str]:
    return [words] if isinstance(words, str) else list(words or ())


def _encode(tokenizer: Any, word: str) -> list[int]:
    return list(tokenizer.encode(word, add_special_tokens=False))


def _word_ids(
    name: str, words: Any, encoded: list[list[int]] | None, token_ids: list[int] | None
) -> list[list[int]]:
    if words is not None and encoded is None:
        raise RuntimeError(f"{name} words ({words!r}) are not processed by tokenizer, please setup")
    return [*([token] for token in token_ids or ()), *(encoded or ())]


def _of_release() -> type:
    """`SamplingParams` with the fields that only some releases have."""
    names = ("logprobs_mode", "thinking_token_budget")
    found = [(name, default_of("SamplingParams", name, ABSENT)) for name in names]
    new = [(name, Any, field(default=value)) for name, value in found if value is not ABSENT]
    made = dataclasses.make_dataclass(
        "SamplingParams", new, bases=(_SamplingParams,), slots=True, kw_only=True
    )
    made.__module__ = __name__
    made.__doc__ = "Keyword-only; checked when made, as far as the package checks."
    return made


SamplingParams = _of_release()
