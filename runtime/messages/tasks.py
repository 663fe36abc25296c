"""What a model is for, where it is asked for something else. Pure."""

from runtime.errors import InvalidRequest
from runtime.messages.engine import EngineLimits

_RANKS = "This model ranks documents and does nothing else. Use /v1/rerank or /v1/score."
_EMBEDS = "This model makes embeddings and does nothing else. Use /v1/embeddings."


def cannot_generate(limits: EngineLimits) -> InvalidRequest:
    """The refusal of a request for a text, by a model that cannot generate one."""
    return _refusal(_RANKS if limits.ranks else _EMBEDS)


def check_embeds(limits: EngineLimits, engine: str) -> None:
    """Raises InvalidRequest unless the model, in the engine of this name, makes embeddings."""
    if limits.ranks:
        raise _refusal(_RANKS)
    if not limits.max_embedding_len:
        raise _refusal(
            f"The engine `{engine}` has no embeddings. Use a server whose engine is llama_cpp."
        )


def check_scores(limits: EngineLimits, engine: str) -> None:
    """Raises InvalidRequest unless the model, in the engine of this name, compares two texts."""
    if limits.scoring != "none":
        return
    check_embeds(limits, engine)
    raise _refusal(
        "This model generates text and was made neither to rank documents nor for embeddings that"
        " can be compared. Name a reranker or an embedding model, or use /v1/chat/completions."
    )


def _refusal(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="model", code="unsupported_value")
