"""`SamplingParams`, `GuidedDecodingParams` and the logits processors' base classes."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .facts import ABSENT, default_of
from .tensor import Tensor

MAX_LOGPROBS = 100


@dataclass(slots=True, kw_only=True)
class GuidedDecodingParams:
    """At most one guide; an empty one counts as none."""

    json: Any = None
    regex: str | None = None
    grammar: str | None = None
    json_object: bool = False
    structural_tag: str | None = None

    def _validate(self) -> None:
        guides = (self.json, self.regex, self.grammar, self.structural_tag)
        if sum(map(bool, guides)) + bool(self.json_object) > 1:
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


@dataclass(slots=True, kw_only=True)
class _SamplingParams:
    end_id: int | None = None
    pad_id: int | None = None
    max_tokens: int | None = 32
    bad: str | list[str] | None = None
    bad_token_ids: list[int] | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
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
        self.logprobs = _number(self.logprobs)
        self.prompt_logprobs = _number(self.prompt_logprobs)
        self._validate()

    def _validate(self) -> None:
        _check_ranges(self)
        if self.guided_decoding is not None:
            self.guided_decoding._validate()

    @property
    def _greedy_decoding(self) -> bool:
        if self.use_beam_search:
            return False
        wanted = (self.temperature, self.top_p, self.top_k, self.min_p)
        nothing = all(value is None for value in wanted)
        surely = self.top_k == 1 or self.top_p == 0 or self.temperature == 0 or self.min_p == 1
        return nothing or surely

    def _setup(self, tokenizer: Any, extra_eos_ids: Sequence[int] = ()) -> "_SamplingParams":
        """What a tokenizer knows: the end id, and the other end ids of the model."""
        self.end_id = tokenizer.eos_token_id
        if self.pad_id is None:
            pad = getattr(tokenizer, "pad_token_id", None)
            self.pad_id = self.end_id if pad is None else pad
        known = self.stop_token_ids or []
        more = [t for t in extra_eos_ids if t != self.end_id and t not in known]
        if more:
            self.stop_token_ids = [*known, *more]
        return self


def _number(logprobs: Any) -> int | None:
    """True means none but the token's own, False none at all."""
    if isinstance(logprobs, bool):
        return 0 if logprobs else None
    return None if logprobs is None else int(logprobs)


def _check_ranges(params: _SamplingParams) -> None:
    ranges = {
        "top_p": (0, 1),
        "min_p": (0, 1),
        "top_k": (0, math.inf),
        "temperature": (0, math.inf),
        "logprobs": (0, MAX_LOGPROBS),
        "prompt_logprobs": (0, MAX_LOGPROBS),
    }
    for name, (least, most) in ranges.items():
        value = getattr(params, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"require {least} <= {name} <= {most}, got {name}={value}")
    mode = getattr(params, "logprobs_mode", "raw")
    if mode not in ("raw", "processed"):
        raise ValueError(f"logprobs_mode: unknown mode {mode!r}")


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
