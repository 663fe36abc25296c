"""What of a request the engine takes, and what it refuses before the package sees it."""

from runtime.config.tensorrt_llm import NoSpeculation, TensorRTConfig
from runtime.engines.features import (
    Feature,
    check_features,
    check_token_ids,
    without_optional,
)
from runtime.engines.tensorrt_llm.admission.scored_prompts import ScoredPrompts
from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.messages.engine import EngineLimits
from runtime.messages.request import Request
from runtime.structured.structural_tag import is_legacy
from runtime.structured.weight import check_divisors


class RequestChecks:
    """Checks that the package makes too late or not at all (docs/tensorrt-llm-contract.md, 2.3 and
    4.2)."""

    def __init__(
        self,
        settings: TensorRTConfig,
        features: frozenset[Feature],
        limits: EngineLimits,
        scored_prompts: ScoredPrompts,
        vocab_size: int,
    ) -> None:
        self._settings = settings
        self._features = features
        self._limits = limits
        self._scored_prompts = scored_prompts
        self._vocab_size = vocab_size

    def accept(self, request: Request) -> Request:
        """The request as the package is to get it: without a structural tag that the package cannot
        enforce, if that is optional. Raises InvalidRequest, and ContextLengthExceeded."""
        request = self._settle_tag(request)
        check_features(request, self._features, "tensorrt_llm")
        self._check_prompt(request)
        self._scored_prompts.check(request)
        self._check_sampling(request)
        return request

    def _settle_tag(self, request: Request) -> Request:
        wanted = request.sampling.structured_output
        if wanted is None or wanted.structural_tag is None:
            return request
        enforces = self._settings.guided_decoding_backend == "xgrammar"
        if enforces and "structured_output" in self._features and is_legacy(wanted.structural_tag):
            return request
        if not wanted.is_optional:
            raise InvalidRequest(
                f"TensorRT-LLM cannot enforce `{wanted.source}` in this way: leave out `strict` and"
                " `response_format`.",
                param=wanted.source,
                code="unsupported_parameter",
            )
        return without_optional(request)

    def _check_prompt(self, request: Request) -> None:
        num_tokens = len(request.prompt_token_ids)
        if not num_tokens:
            raise InvalidRequest("The prompt has no tokens.", param="prompt")
        if num_tokens >= self._limits.max_model_len:
            raise ContextLengthExceeded.by_prompt(
                num_tokens, self._limits.max_model_len, param="prompt"
            )
        most = self._limits.max_num_batched_tokens
        if not self._settings.enable_chunked_prefill and num_tokens > most:
            raise ContextLengthExceeded(
                f"The prompt is too long: it has {num_tokens} tokens, and this server, which reads"
                f" prompts in one piece, has room for {most}.",
                param="prompt",
            )
        if not all(0 <= token < self._vocab_size for token in request.prompt_token_ids):
            raise InvalidRequest(
                f"A token id of the prompt is outside 0..{self._vocab_size - 1}.", param="prompt"
            )

    def _check_sampling(self, request: Request) -> None:
        sampling = request.sampling
        check_token_ids(request, self._vocab_size)
        if sampling.structured_output is not None:
            check_divisors(sampling.structured_output)
        if request.lora and request.lora not in self._settings.lora.adapters:
            raise InvalidRequest(
                f"There is no adapter {request.lora!r} here.", param="model", code="model_not_found"
            )
        speculates = not isinstance(self._settings.speculative, NoSpeculation)
        if speculates and (sampling.presence_penalty or sampling.frequency_penalty):
            param = "presence_penalty" if sampling.presence_penalty else "frequency_penalty"
            raise InvalidRequest(
                f"`{param}` is not possible while engine.tensorrt_llm.speculative drafts tokens;"
                " leave it out.",
                param=param,
            )
