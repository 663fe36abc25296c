"""The bodies of OpenAI's endpoints, each with the fate of the fields that it does not declare."""

from collections.abc import Mapping

from msgspec import Struct

from gateway.api.openai.conversations.protocol import (
    AddItems,
    CreateConversation,
    UpdateConversation,
    decode_add_items,
    decode_create_conversation,
    decode_update_conversation,
)
from gateway.api.openai.fields.places import list_of
from gateway.api.openai.fields.undeclared import UndeclaredFields
from gateway.api.openai.protocol.embedding import EmbeddingRequest, decode_embedding
from gateway.api.openai.protocol.requests import (
    ChatCompletionRequest,
    CompletionRequest,
    decode_chat_completion,
    decode_completion,
)
from gateway.api.openai.ranking.protocol import (
    RerankRequest,
    ScoreRequest,
    decode_rerank,
    decode_score,
)
from gateway.api.openai.responses.compaction.request import (
    CompactRequest,
    decode_compact_request,
)
from gateway.api.openai.responses.protocol import (
    ITEMS,
    ResponseRequest,
    ResponseTool,
    decode_response_request,
)
from gateway.http.body import JSONBody

KINDS: Mapping[str, type[Struct]] = {
    "/v1/chat/completions": ChatCompletionRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponseRequest,
    "/v1/embeddings": EmbeddingRequest,
    "/v1/rerank": RerankRequest,
    "/v1/score": ScoreRequest,
}
"""The bodies by the paths of their endpoints."""

CHAT_FIELDS = UndeclaredFields(
    ChatCompletionRequest, KINDS, neutral={"add_special_tokens": (False,)}
)
COMPLETION_FIELDS = UndeclaredFields(
    CompletionRequest, KINDS, neutral={"add_special_tokens": (True,)}
)
RESPONSE_FIELDS = UndeclaredFields(
    ResponseRequest,
    KINDS,
    neutral={"add_special_tokens": (False,)},
    raw_places={"input": list_of(ITEMS.values(), "message"), "tools": list_of([ResponseTool])},
)
COMPACT_FIELDS = UndeclaredFields(
    CompactRequest,
    KINDS,
    weighty=("messages", "prompt", "conversation", "stream", "background"),
    raw_places={"input": list_of(ITEMS.values(), "message")},
)
EMBEDDING_FIELDS = UndeclaredFields(
    EmbeddingRequest,
    KINDS,
    neutral={"add_special_tokens": (True,)},
    weighty=("messages", "prompt", "instructions", "suffix", "chat_template_kwargs"),
)
_OTHER_TEXTS = ("input", "messages", "prompt", "instructions", "suffix", "chat_template_kwargs")
RERANK_FIELDS = UndeclaredFields(
    RerankRequest,
    KINDS,
    weighty=(*_OTHER_TEXTS, "top_k", "dimensions", "text_1", "text_2", "queries"),
)
SCORE_FIELDS = UndeclaredFields(
    ScoreRequest, KINDS, weighty=(*_OTHER_TEXTS, "dimensions", "query", "top_n", "top_k")
)
_ITEMS = list_of(ITEMS.values(), "message")
_SAYING = ("input", "messages", "prompt", "instructions")
CREATE_CONVERSATION_FIELDS = UndeclaredFields(
    CreateConversation, KINDS, weighty=_SAYING, raw_places={"items": _ITEMS}
)
UPDATE_CONVERSATION_FIELDS = UndeclaredFields(
    UpdateConversation, KINDS, weighty=(*_SAYING, "items")
)
ADD_ITEMS_FIELDS = UndeclaredFields(AddItems, KINDS, weighty=_SAYING, raw_places={"items": _ITEMS})

CHAT_BODY = JSONBody(ChatCompletionRequest, decode_chat_completion, CHAT_FIELDS.settle)
COMPLETION_BODY = JSONBody(CompletionRequest, decode_completion, COMPLETION_FIELDS.settle)
RESPONSE_BODY = JSONBody(ResponseRequest, decode_response_request, RESPONSE_FIELDS.settle)
COMPACT_BODY = JSONBody(CompactRequest, decode_compact_request, COMPACT_FIELDS.settle)
EMBEDDING_BODY = JSONBody(EmbeddingRequest, decode_embedding, EMBEDDING_FIELDS.settle)
RERANK_BODY = JSONBody(RerankRequest, decode_rerank, RERANK_FIELDS.settle)
SCORE_BODY = JSONBody(ScoreRequest, decode_score, SCORE_FIELDS.settle)
CREATE_CONVERSATION_BODY = JSONBody(
    CreateConversation, decode_create_conversation, CREATE_CONVERSATION_FIELDS.settle
)
UPDATE_CONVERSATION_BODY = JSONBody(
    UpdateConversation, decode_update_conversation, UPDATE_CONVERSATION_FIELDS.settle
)
ADD_ITEMS_BODY = JSONBody(AddItems, decode_add_items, ADD_ITEMS_FIELDS.settle)
