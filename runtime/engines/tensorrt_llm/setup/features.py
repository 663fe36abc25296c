"""What these settings and the installed release can do beyond the basics."""

from runtime.config.tensorrt_llm import NoSpeculation, TensorRTConfig
from runtime.engines.features import Feature
from runtime.engines.tensorrt_llm.setup.package import Package

_ALWAYS: frozenset[Feature] = frozenset(("logprobs", "stop_token_ids"))
_BY_LOGITS_PROCESSOR: frozenset[Feature] = frozenset(
    ("logit_bias", "min_tokens", "repetition_penalty", "thinking_token_budget")
)


def find_features(settings: TensorRTConfig, package: Package) -> frozenset[Feature]:
    """The features that these settings and this release support. Speculation rules out logits
    processors: they see one token at a time, and a draft checks several. MAX_UTILIZATION rules out
    structured output: the package begins the grammar of a paused answer anew
    (docs/tensorrt-llm-contract.md, 5.2)."""
    features = _ALWAYS
    if _can_score_prompts(settings, package):
        features |= {"prompt_logprobs"}
    pauses = settings.scheduler_policy == "MAX_UTILIZATION"
    if settings.guided_decoding_backend != "off" and not pauses:
        features |= {"structured_output"}
    if settings.lora.adapters:
        features |= {"lora"}
    if isinstance(settings.speculative, NoSpeculation):
        features |= _BY_LOGITS_PROCESSOR
    return features


def _can_score_prompts(settings: TensorRTConfig, package: Package) -> bool:
    """Whether the release returns log-probabilities of prompts, and can be kept from using the
    cache for one."""
    reuses = settings.kv_cache.enable_block_reuse is not False
    can_pass_by = not reuses or "cache_salt" in package.generate_parameters
    return can_pass_by and "prompt_logprobs" in package.sampling_fields
