"""The embedded engine: one llama.cpp context, many sequences, one continuous batch."""

import time

import msgspec

from runtime.config import EngineConfig
from runtime.engines.base import EngineUsage, SequenceOutput
from runtime.engines.llama_cpp.kv_cache import KVCache
from runtime.engines.llama_cpp.model import LlamaModel
from runtime.engines.llama_cpp.pace import Pace
from runtime.engines.llama_cpp.scheduler import Batch, Scheduler
from runtime.engines.llama_cpp.sequence import Sequence
from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.messages import EngineLimits
from runtime.request import Request, SamplingParams
from runtime.tokenizer import Tokenizer


class LlamaCppEngine:
    """Implements `Engine` on llama.cpp. One step is one `llama_decode`."""

    def __init__(self, config: EngineConfig, model_path: str, tokenizer: Tokenizer) -> None:
        started = time.monotonic()
        self._model = LlamaModel(config, model_path)
        self._eog_token_ids = self._model.eog_token_ids()
        self._pace = Pace(config.max_step_ms / 1000)
        self._kv_cache = KVCache(
            self._model, num_cells=self._model.num_cells, num_slots=config.max_num_seqs
        )
        self._scheduler = Scheduler(
            self._kv_cache,
            self._pace,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
        )
        self._num_prompt_tokens = 0
        self._num_generation_tokens = 0
        self.limits = EngineLimits(
            max_model_len=self._model.max_model_len,
            max_num_seqs=config.max_num_seqs,
            max_num_waiting=config.max_num_waiting,
            max_num_batched_tokens=config.max_num_batched_tokens,
            num_kv_tokens=self._model.num_cells,
        )
        self.info = self._model.describe(time.monotonic() - started)

    @property
    def num_running(self) -> int:
        return self._scheduler.num_sequences

    def can_add(self, request: Request) -> bool:
        num_tokens = len(request.prompt_token_ids) + len(request.output_token_ids)
        # What can never fit is let through to `add`, which refuses it.
        return num_tokens >= self.limits.max_model_len or self._scheduler.can_add(num_tokens)

    def add(self, request: Request) -> None:
        self._check(request)
        sampler = self._model.create_sampler(_sampling(request))
        sampler.accept(request.output_token_ids)
        self._scheduler.add(Sequence(request, sampler, self.limits.max_model_len))

    def abort(self, request_id: str) -> None:
        sequence = self._scheduler.remove(request_id)
        if sequence is not None:
            sequence.sampler.close()

    def step(self) -> list[SequenceOutput]:
        batch = self._scheduler.schedule()
        if not batch.chunks:
            return []
        started = time.monotonic()
        rows = self._model.decode(batch)
        outputs = self._sample(batch, rows)
        self._account(batch, time.monotonic() - started)
        return outputs

    def take_usage(self) -> EngineUsage:
        usage = EngineUsage(
            num_prompt_tokens=self._num_prompt_tokens,
            num_generation_tokens=self._num_generation_tokens,
            num_preempted=self._scheduler.take_num_preempted(),
            kv_cache_usage=self._kv_cache.usage,
        )
        self._num_prompt_tokens = self._num_generation_tokens = 0
        return usage

    def close(self) -> None:
        for sequence in self._scheduler.sequences():
            self.abort(sequence.request_id)
        self._model.close()

    def _check(self, request: Request) -> None:
        num_tokens = len(request.prompt_token_ids)
        if num_tokens >= self.limits.max_model_len:
            raise ContextLengthExceeded(
                f"The prompt has {num_tokens} tokens; this model has room for"
                f" {self.limits.max_model_len - 1} and at least one token of an answer.",
                param="prompt",
            )
        if not num_tokens:
            raise InvalidRequest("The prompt has no tokens.", param="prompt")
        if not all(0 <= token < self._model.num_vocab for token in request.prompt_token_ids):
            raise InvalidRequest(
                f"A token id of the prompt is outside 0..{self._model.num_vocab - 1}.",
                param="prompt",
            )

    def _sample(self, batch: Batch, rows: list[int]) -> list[SequenceOutput]:
        outputs: list[SequenceOutput] = []
        sampling = [chunk.sequence for chunk in batch.chunks if chunk.samples]
        for chunk in batch.chunks:
            chunk.sequence.num_computed_tokens += chunk.num_tokens
        for sequence, row in zip(sampling, rows, strict=True):
            token_id = sequence.sampler.sample(row)
            reason = sequence.append(token_id, self._eog_token_ids)
            outputs.append(
                SequenceOutput(sequence.request_id, [token_id], reason, sequence.num_cached_tokens)
            )
            if reason is not None:
                self.abort(sequence.request_id)
        self._num_generation_tokens += len(outputs)
        return outputs

    def _account(self, batch: Batch, seconds: float) -> None:
        num_decoding = sum(chunk.num_tokens == 1 for chunk in batch.chunks)
        num_prompt_tokens = batch.num_tokens - num_decoding
        self._num_prompt_tokens += num_prompt_tokens
        self._pace.observe(num_decoding, num_prompt_tokens, seconds)


def _sampling(request: Request) -> SamplingParams:
    """A resumed request draws other random numbers than it drew for its first tokens."""
    sampling, num_tokens = request.sampling, len(request.output_token_ids)
    return msgspec.structs.replace(sampling, seed=sampling.seed + num_tokens)
