"""The embedded engine: one llama.cpp context, many sequences, one continuous batch."""

import time
from concurrent.futures import Future

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LoRAAdapter
from runtime.engines.base import FailedSequence, SequenceOutput
from runtime.engines.features import Feature, check_features, check_token_ids
from runtime.engines.llama_cpp.adapters import LlamaAdapters
from runtime.engines.llama_cpp.embedding.embedder import LlamaEmbedder
from runtime.engines.llama_cpp.embedding.results import find_scoring
from runtime.engines.llama_cpp.kv.disk.opening import open_tier
from runtime.engines.llama_cpp.kv.disk.tier import DiskTier
from runtime.engines.llama_cpp.kv.kv_cache import KVCache
from runtime.engines.llama_cpp.model import LlamaModel
from runtime.engines.llama_cpp.pace import Pace
from runtime.engines.llama_cpp.sampling.constraints import Constraints
from runtime.engines.llama_cpp.sampling.logprobs import token_logprobs
from runtime.engines.llama_cpp.sampling.sampler import Sampler
from runtime.engines.llama_cpp.sampling.top_k import Floats
from runtime.engines.llama_cpp.scheduler import Batch, Chunk, Scheduler
from runtime.engines.llama_cpp.sequence import Sequence, end_token_ids, scores_prompt
from runtime.engines.llama_cpp.weights import LlamaWeights, load_weights
from runtime.errors import ContextLengthExceeded, InvalidRequest, SetupError
from runtime.messages.engine import Capability, DiskUsage, EngineLimits, EngineUsage
from runtime.messages.request import FinishReason, Request, TokenLogprobs
from runtime.structured.grammars import GrammarCompiler
from runtime.structured.guide import Grammar, Guide
from runtime.tokenizers.tokenizer import Tokenizer

FEATURES: frozenset[Feature] = frozenset(
    (
        "logit_bias",
        "logprobs",
        "min_tokens",
        "prompt_logprobs",
        "repetition_penalty",
        "stop_token_ids",
        "structured_output",
        "thinking_token_budget",
    )
)

_WITH_ADAPTERS: frozenset[Feature] = frozenset(("lora",))


class LlamaCppEngine:
    """Implements `Engine` on llama.cpp. One step is one `llama_decode`.

    `weights` are those of the file, where it has been loaded already.
    """

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        tokenizer: Tokenizer,
        weights: LlamaWeights | None = None,
    ) -> None:
        _check_settings(config)
        self._weights = weights or load_weights(config, model_path)
        self._tokenizer = tokenizer
        self._compiler = GrammarCompiler(tokenizer)
        self._grammars: dict[str, Future[Grammar]] = {}
        self._failed: list[FailedSequence] = []
        self._features = FEATURES | _WITH_ADAPTERS if config.llama_cpp.lora.is_used else FEATURES
        self._adapters = LlamaAdapters(self._weights)
        for name, adapter in config.llama_cpp.lora.files.items():
            self._adapters.load(name, adapter)
        self._model = LlamaModel(config, self._weights, self._adapters)
        self._eog_token_ids = self._model.eog_token_ids()
        self._pace = Pace(config.max_step_ms / 1000)
        self._disk = _open_disk(config, model_path, self._model)
        self._kv_cache = KVCache(
            self._model,
            num_cells=self._model.num_cells,
            num_slots=self._model.num_slots,
            max_num_bytes=self._model.prefix_cache_bytes(config),
            block_tokens=self._model.block_tokens,
            sharing=self._model.can_share,
            disk=self._disk,
        )
        self._scheduler = Scheduler(
            self._kv_cache,
            self._pace,
            max_num_seqs=config.max_num_seqs,
            max_num_batched_tokens=config.max_num_batched_tokens,
        )
        self.embedder = LlamaEmbedder(config, self._weights, self._model.max_model_len)
        self._num_prompt_tokens = 0
        self._num_generation_tokens = 0
        self._num_cached_tokens = 0
        self._num_preempted = 0
        self.limits = EngineLimits(
            max_model_len=self._model.max_model_len,
            max_num_seqs=config.max_num_seqs,
            max_num_waiting=config.max_num_waiting,
            max_num_batched_tokens=config.max_num_batched_tokens,
            num_kv_tokens=self._model.num_cells,
            max_embedding_len=self.embedder.max_tokens,
            embedding_width=self.embedder.width,
            scoring=find_scoring(self._weights),
        )
        self.info = self._weights.describe()
        self.capabilities = _capabilities(config)

    @property
    def num_running(self) -> int:
        return self._scheduler.num_running

    def can_add(self, request: Request) -> bool:
        token_ids = request.prompt_token_ids + request.output_token_ids
        # A request that can never fit passes here; `add` refuses it.
        return len(token_ids) >= self.limits.max_model_len or self._scheduler.can_add(
            token_ids, self._adapters.salt(request), shares=not scores_prompt(request)
        )

    def prepare(self, request: Request) -> Future[Grammar] | None:
        check_features(request, self._features, "llama_cpp")
        self._adapters.check(request)
        wanted = request.sampling.structured_output
        if wanted is None:
            return None
        future = self._grammars[request.request_id] = self._compiler.compile(wanted, request.tenant)
        return future

    def add(self, request: Request) -> None:
        check_features(request, self._features, "llama_cpp")
        self._adapters.check(request)
        check_token_ids(request, self._model.num_vocab)
        self._check(request)
        ends = end_token_ids(request, self._eog_token_ids)
        sampler = Sampler(
            request.sampling,
            request.output_token_ids,
            prompt_token_ids=request.prompt_token_ids,
            end_token_ids=ends,
        )
        steering = self._steering(request)
        most, salt = self.limits.max_model_len, self._adapters.salt(request)
        sequence = Sequence(request, sampler, most, ends, steering, salt)
        self._scheduler.add(sequence)
        self._num_cached_tokens += sequence.num_cached_tokens

    def abort(self, request_id: str) -> None:
        self._scheduler.remove(request_id)
        grammar = self._grammars.pop(request_id, None)
        if grammar is not None:
            self._compiler.leave(grammar)

    def preempt(self, request_id: str) -> None:
        self._scheduler.preempt(request_id)

    def take_preempted(self) -> list[Request]:
        preempted = self._scheduler.take_preempted()
        self._num_preempted += len(preempted)
        return [sequence.to_request() for sequence in preempted]

    def take_failed(self) -> list[FailedSequence]:
        failed, self._failed = self._failed, []
        return failed

    def step(self) -> list[SequenceOutput]:
        batch = self._scheduler.schedule()
        if not batch.chunks:
            if self._disk is not None:
                self._disk.wait()
            return []
        started = time.perf_counter()
        rows = self._model.decode(batch)
        outputs = self._sample(batch, rows)
        self._account(batch, time.perf_counter() - started)
        return outputs

    def load_adapter(self, name: str, adapter: LoRAAdapter) -> None:
        self.unload_adapter(name)
        self._adapters.load(name, adapter)

    def unload_adapter(self, name: str) -> None:
        users = [each for each in self._scheduler.sequences() if each.request.lora == name]
        assert not users, "an adapter is unloaded when no sequence uses it: this is a bug"
        self._adapters.unload(self._model.context, name)

    def take_usage(self) -> EngineUsage:
        disk = DiskUsage() if self._disk is None else self._disk.take_usage()
        usage = EngineUsage(
            num_prompt_tokens=self._num_prompt_tokens,
            num_generation_tokens=self._num_generation_tokens,
            num_cached_tokens=self._num_cached_tokens + disk.num_hit_tokens,
            num_preempted=self._num_preempted,
            kv_cache_usage=self._kv_cache.usage,
            prefix_cache_usage=self._kv_cache.prefix_usage,
            num_trials_killed=self._compiler.take_num_killed(),
            num_compiling=self._compiler.num_compiling,
            num_to_compile=self._compiler.num_waiting,
            disk=disk,
        )
        self._num_prompt_tokens = self._num_generation_tokens = 0
        self._num_cached_tokens = self._num_preempted = 0
        return usage

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()
        self._compiler.close()
        self.embedder.close()
        self._model.close()
        self._weights.close()

    def _check(self, request: Request) -> None:
        num_tokens = len(request.prompt_token_ids)
        if num_tokens >= self.limits.max_model_len:
            raise ContextLengthExceeded.by_prompt(
                num_tokens, self.limits.max_model_len, param="prompt"
            )
        if not num_tokens:
            raise InvalidRequest("The prompt has no tokens.", param="prompt")
        if not all(0 <= token < self._model.num_vocab for token in request.prompt_token_ids):
            raise InvalidRequest(
                f"A token id of the prompt is outside 0..{self._model.num_vocab - 1}.",
                param="prompt",
            )

    def _steering(self, request: Request) -> Constraints | None:
        """The constraints of the answer beyond sampling, advanced to its current end."""
        preparation = self._grammars.get(request.request_id) or self.prepare(request)
        if preparation is None and request.thinking is None:
            return None
        guide = None if preparation is None else Guide(preparation.result(), request.sampling)
        return Constraints(request, guide, self._tokenizer)

    def _sample(self, batch: Batch, rows: list[int]) -> list[SequenceOutput]:
        outputs: list[SequenceOutput] = []
        self._scheduler.commit(batch)
        for chunk, row in zip(batch.chunks, rows, strict=True):
            if chunk.scores:
                self._score(chunk, row)
            if chunk.samples:
                self._advance_or_fail(chunk.sequences[0], row, outputs)
        self._num_generation_tokens += sum(len(output.token_ids) for output in outputs)
        return outputs

    def _advance_or_fail(self, sequence: Sequence, row: int, outputs: list[SequenceOutput]) -> None:
        try:
            outputs.append(self._advance(sequence, row))
        except InvalidRequest as error:
            self.abort(sequence.request_id)
            self._failed.append(FailedSequence(sequence.request_id, error))

    def _score(self, chunk: Chunk, last_row: int) -> None:
        """Each row scores the token after it; the token after the prompt is sampled."""
        [sequence] = chunk.sequences
        num_top = sequence.request.sampling.prompt_logprobs
        assert num_top is not None, "nobody asked for this: this is a bug"
        end = min(chunk.end, sequence.num_prompt_tokens - 1)
        for position in range(chunk.start, end):
            logits = self._model.logits(last_row + 1 - chunk.end + position)
            token_id = sequence.token_ids[position + 1]
            sequence.prompt_logprobs.append(token_logprobs(logits, token_id, num_top))

    def _advance(self, sequence: Sequence, row: int) -> SequenceOutput:
        sampling = sequence.request.sampling
        prompt_logprobs = sequence.take_prompt_logprobs()
        token_ids: list[int] = []
        logprobs: list[TokenLogprobs] = []
        reason: FinishReason | None = "length"
        if sampling.max_tokens:  # otherwise the request wanted only the prompt
            logits = self._model.logits(row)
            token_ids = [_next_token(sequence, logits)]
            reason = sequence.append(token_ids[0])
            if sampling.logprobs is not None:
                logprobs = [token_logprobs(logits, token_ids[0], sampling.logprobs)]
        if reason is not None:
            self.abort(sequence.request_id)
        return SequenceOutput(
            sequence.request_id,
            token_ids,
            reason,
            sequence.num_cached_tokens,
            None if sampling.logprobs is None else logprobs,
            prompt_logprobs,
        )

    def _account(self, batch: Batch, seconds: float) -> None:
        num_prompt_tokens = batch.num_tokens - batch.num_decoding
        self._num_prompt_tokens += num_prompt_tokens
        num_scored = sum(chunk.num_tokens for chunk in batch.chunks if chunk.scores)
        num_decoding = batch.num_decoding
        if batch.is_turn and not num_decoding and num_prompt_tokens > num_scored:
            num_decoding, num_prompt_tokens = 1, num_prompt_tokens - 1  # for the weights are read
        self._pace.observe(num_decoding, num_prompt_tokens, seconds, num_scored=num_scored)


def _next_token(sequence: Sequence, logits: Floats) -> int:
    steering, sampler = sequence.steering, sequence.sampler
    if steering is None:
        return sampler.sample(logits)
    forced = steering.forced_token_id
    if forced is None:
        return sampler.sample(logits, steering.allowed)
    sampler.take(forced)
    return forced


def _capabilities(config: EngineConfig) -> frozenset[Capability]:
    if config.llama_cpp.lora.folder:
        return frozenset(("structural_tags", "runtime_adapters"))
    return frozenset(("structural_tags",))


def _open_disk(config: EngineConfig, model_path: str, model: LlamaModel) -> DiskTier | None:
    if not model.can_share:
        return None
    return open_tier(
        config,
        model_path,
        model.computation(config),
        block_tokens=model.block_tokens,
        memory_bytes=model.prefix_cache_bytes(config),
    )


def _check_settings(config: EngineConfig) -> None:
    if config.max_num_batched_tokens < config.max_num_seqs:
        raise SetupError(
            f"engine.max_num_batched_tokens is {config.max_num_batched_tokens}, less than"
            f" engine.max_num_seqs, which is {config.max_num_seqs}: every running sequence gets a"
            " token in every step. Raise the one or lower the other."
        )
