"""How long a prompt may be whose log-probabilities a request wants."""

from collections.abc import Iterable

from runtime.config.tensorrt_llm import TensorRTConfig
from runtime.errors import InvalidRequest
from runtime.hardware.choice import visible_gpus
from runtime.hardware.readings import GpuSnapshot
from runtime.messages.request import Request
from runtime.planning.memory_account import RESERVE_FRACTION

BYTES_PER_LOGIT = 4 + 4
"""The package keeps the logits of all tokens of such a prompt, and their logarithms, in 32 bits on
the GPU (docs/tensorrt-llm-contract.md, 3.6)."""

UNKNOWN_GPU_BYTES = 12 * 10**9


class ScoredPrompts:
    """The memory for the log-probabilities of prompts. The KV cache has nearly all of the GPU's, so
    that a long prompt would end the engine."""

    def __init__(self, settings: TensorRTConfig, gpus: GpuSnapshot, vocab_size: int) -> None:
        num_bytes = _bytes(settings, gpus)
        self.max_tokens = int(num_bytes / (vocab_size * BYTES_PER_LOGIT))

    def check(self, request: Request) -> None:
        """Raises InvalidRequest for a prompt that is too long to be scored."""
        num_tokens = len(request.prompt_token_ids)
        if request.sampling.prompt_logprobs is not None and num_tokens > self.max_tokens:
            raise InvalidRequest(
                f"`prompt_logprobs` of {num_tokens} tokens need more GPU memory than this server"
                f" keeps for them: {self.max_tokens} tokens are possible. Send the text in parts,"
                " or raise engine.tensorrt_llm.prompt_logprobs_gb.",
                param="prompt_logprobs",
            )

    def has_room(self, request: Request, running: Iterable[Request]) -> bool:
        """Whether this prompt can be scored beside those that are being scored."""
        if request.sampling.prompt_logprobs is None:
            return True
        lengths = [len(each.prompt_token_ids) for each in running]
        return not lengths or sum(lengths) + len(request.prompt_token_ids) <= self.max_tokens


def _bytes(settings: TensorRTConfig, gpus: GpuSnapshot) -> float:
    if settings.prompt_logprobs_gb != "auto":
        return settings.prompt_logprobs_gb * 1e9
    first = next(iter(visible_gpus(gpus.gpus)), None)
    memory = None if first is None else first.memory_total
    return (memory or UNKNOWN_GPU_BYTES) * RESERVE_FRACTION / 2
