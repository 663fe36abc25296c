"""An engine that computes nothing: deterministic tokens at a set pace.

It stands in for a model where the model does not matter: tests of everything above the engine,
and benchmarks of the front end. Its answer depends on the prompt and on the position alone, so a
stream that mixes up two requests, loses a token or repeats one is found out.
"""

import math
import os
import time
from collections.abc import Sequence
from functools import partial

import msgspec

from runtime.config.engine import EngineConfig
from runtime.engines.base import MAX_EMBEDDING_TOKENS, FailedSequence, SequenceOutput
from runtime.engines.features import Feature, check_features, check_token_ids
from runtime.engines.scripted.embedder import WIDTH, ScriptedEmbedder
from runtime.messages.engine import Capability, EngineInfo, EngineLimits, EngineUsage
from runtime.messages.loading import Announce, tell_nobody
from runtime.messages.request import FinishReason, Request, TokenLogprobs
from runtime.text.detokenizer import spell
from runtime.text.thinking import ThinkingTracker
from runtime.tokenizers.tokenizer import Tokenizer
from runtime.version import __version__

DEFAULT_MODEL_LEN = 32_768
"""Context in tokens where neither the settings nor the tokenizer's file name one."""

FEATURES: frozenset[Feature] = frozenset(
    (
        "logit_bias",
        "logprobs",
        "min_tokens",
        "prompt_logprobs",
        "repetition_penalty",
        "stop_token_ids",
        "thinking_token_budget",
    )
)
"""What only moves probabilities is taken and changes nothing: there are none."""

LOAD_STEPS = 20
"""How often the load tells of its progress."""

BANNED = -100.0
"""A `logit_bias` of this or less keeps a token out of the script, as OpenAI's does."""


class _Sequence:
    """A running request and what has been handed out of its answer."""

    def __init__(self, request: Request, script: list[int], tokenizer: Tokenizer) -> None:
        self.request = request
        self._tracker = _tracker(request, tokenizer)
        self.output_token_ids = list(request.output_token_ids)
        self._script = script
        self._offset = sum(request.prompt_token_ids)
        self.ends = set(request.sampling.stop_token_ids)
        self.has_reported_prompt = bool(request.output_token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.output_token_ids)

    def next_token(self) -> int:
        token = None if self._tracker is None else self._tracker.forced_token_id
        if token is None:
            token = self._script[(self._offset + self.num_output_tokens) % len(self._script)]
        self.output_token_ids.append(token)
        if self._tracker is not None:
            self._tracker.push(token)
        return token


class ScriptedEngine:
    """Hands out one token a step to every running sequence. `num_tokens` of the settings, when
    not 0, is the length after which an answer ends by itself."""

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        tokenizer: Tokenizer,
        announce: Announce = tell_nobody,
    ) -> None:
        started = time.monotonic()
        for step in range(LOAD_STEPS):
            announce("weights", step / LOAD_STEPS)
            time.sleep(config.scripted.load_ms / 1000 / LOAD_STEPS)
        self._config = config.scripted
        self._script = tokenizer.encode(
            config.scripted.text, add_special=False, parse_special=False
        )
        self._tokenizer = tokenizer
        self._poison = tokenizer.encode(
            config.scripted.poison, add_special=False, parse_special=False
        )
        self._eos_token_id = tokenizer.eos_token_id
        self._vocab_size = tokenizer.vocab_size
        self._running: dict[str, _Sequence] = {}
        self._preempted: list[Request] = []
        self._num_prompt_tokens = 0
        self._num_generation_tokens = 0
        self._num_preempted = 0
        self.limits = _limits(config, tokenizer)
        self.capabilities: frozenset[Capability] = frozenset(("structural_tags",))
        self.embedder = ScriptedEmbedder(self.limits.max_embedding_len, self._vocab_size)
        self.info = EngineInfo(
            engine="scripted",
            version=__version__,
            device="none",
            load_seconds=time.monotonic() - started,
        )

    @property
    def num_running(self) -> int:
        return len(self._running)

    def prepare(self, request: Request) -> None:
        return None

    def can_add(self, request: Request) -> bool:
        return len(self._running) < self.limits.max_num_seqs

    def add(self, request: Request) -> None:
        check_features(request, FEATURES, "scripted")
        check_token_ids(request, self._vocab_size)
        assert request.request_id not in self._running, "request added twice: this is a bug"
        script = _allowed(self._script, request)
        self._running[request.request_id] = _Sequence(request, script, self._tokenizer)
        self._num_prompt_tokens += len(request.prompt_token_ids)

    def abort(self, request_id: str) -> None:
        self._running.pop(request_id, None)

    def preempt(self, request_id: str) -> None:
        sequence = self._running.pop(request_id, None)
        if sequence is not None:
            tokens = sequence.output_token_ids
            self._preempted.append(
                msgspec.structs.replace(sequence.request, output_token_ids=tokens)
            )
            self._num_preempted += 1

    def take_preempted(self) -> list[Request]:
        preempted, self._preempted = self._preempted, []
        return preempted

    def take_failed(self) -> list[FailedSequence]:
        return []

    def step(self) -> list[SequenceOutput]:
        if not self._running:
            return []
        if self._config.step_ms:
            time.sleep(self._config.step_ms / 1000)
        self._die_of_poison()
        outputs = [self._advance(sequence) for sequence in self._running.values()]
        for output in outputs:
            if output.finish_reason is not None:
                del self._running[output.request_id]
        self._num_generation_tokens += len(outputs)
        return outputs

    def take_usage(self) -> EngineUsage:
        usage = EngineUsage(
            num_prompt_tokens=self._num_prompt_tokens,
            num_generation_tokens=self._num_generation_tokens,
            num_preempted=self._num_preempted,
            kv_cache_usage=len(self._running) / self.limits.max_num_seqs,
        )
        self._num_prompt_tokens = self._num_generation_tokens = self._num_preempted = 0
        return usage

    def close(self) -> None:
        self._running.clear()

    def _die_of_poison(self) -> None:
        if not self._poison:
            return
        for sequence in self._running.values():
            if sequence.num_output_tokens >= self._config.poison_after and _contains(
                sequence.request.prompt_token_ids, self._poison
            ):
                os.abort()  # what llama.cpp does when one of its assertions fails

    def _advance(self, sequence: _Sequence) -> SequenceOutput:
        request, sampling = sequence.request, sequence.request.sampling
        token_ids, reason = self._next(sequence) if sampling.max_tokens else ([], "length")
        return SequenceOutput(
            request.request_id,
            token_ids,
            reason,
            logprobs=self._logprobs(token_ids, request, sampling.logprobs),
            prompt_logprobs=self._prompt_logprobs(sequence),
        )

    def _next(self, sequence: _Sequence) -> tuple[list[int], FinishReason | None]:
        sampling, num_tokens = sequence.request.sampling, sequence.num_output_tokens
        ends = self._config.num_tokens and num_tokens >= self._config.num_tokens
        must_go_on = sampling.ignore_eos or num_tokens < sampling.min_tokens
        if ends and self._eos_token_id is not None and not must_go_on:
            return [self._eos_token_id], "stop"
        token = sequence.next_token()
        if token in sequence.ends and num_tokens >= sampling.min_tokens:
            return [token], "stop"
        is_last = sequence.num_output_tokens >= sampling.max_tokens
        return [token], "length" if is_last else None

    def _prompt_logprobs(self, sequence: _Sequence) -> list[TokenLogprobs | None] | None:
        request = sequence.request
        if sequence.has_reported_prompt or request.sampling.prompt_logprobs is None:
            return None
        sequence.has_reported_prompt = True
        later = request.prompt_token_ids[1:]
        return [None, *(self._logprobs(later, request, request.sampling.prompt_logprobs) or [])]

    def _logprobs(
        self, token_ids: Sequence[int], request: Request, num_top: int | None
    ) -> list[TokenLogprobs] | None:
        """Made up, and the same each time: the token is the likeliest, by how much depends on the
        seed, and the ids after it are each half as likely as the one before."""
        if num_top is None:
            return None
        first = -0.1 * (1 + request.sampling.seed % 5)
        return [
            TokenLogprobs(
                first,
                1,
                [
                    ((token + step) % self._vocab_size, first - step * math.log(2))
                    for step in range(num_top)
                ],
            )
            for token in token_ids
        ]


def _tracker(request: Request, tokenizer: Tokenizer) -> ThinkingTracker | None:
    """What ends the thinking when its budget is used up, standing where the answer stands."""
    if request.thinking is None:
        return None
    tracker = ThinkingTracker(request.thinking, partial(spell, tokenizer))
    tracker.push_all(request.output_token_ids)
    return tracker


def _contains(token_ids: list[int], part: list[int]) -> bool:
    starts = range(len(token_ids) - len(part) + 1)
    return any(token_ids[start : start + len(part)] == part for start in starts)


def _allowed(script: list[int], request: Request) -> list[int]:
    bias = request.sampling.logit_bias
    return [token for token in script if bias.get(token, 0.0) > BANNED] or script


def _limits(config: EngineConfig, tokenizer: Tokenizer) -> EngineLimits:
    length = config.max_model_len
    if length == "auto":
        length = tokenizer.max_model_len or DEFAULT_MODEL_LEN
    return EngineLimits(
        max_model_len=length,
        max_num_seqs=config.max_num_seqs,
        max_num_waiting=config.max_num_waiting,
        max_num_batched_tokens=config.max_num_batched_tokens,
        num_kv_tokens=length * config.max_num_seqs,
        max_embedding_len=min(length, MAX_EMBEDDING_TOKENS),
        embedding_width=WIDTH,
        scoring="cosine",
    )
