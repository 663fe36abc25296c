"""POST /v1/embeddings: its request and its answer as Structs."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.api.openai.protocol.params import Unsupported
from gateway.api.openai.protocol.requests import WorkRequest
from gateway.models.prompts import ROLES

MAX_INPUTS = 2048
"""Texts of one request, as at OpenAI."""

MAX_TOKENS = 300_000
"""Tokens of all texts of one request together, as at OpenAI."""

Inputs = list[str] | list[list[int]]

InputType = Annotated[str, Meta(extra_json_schema={"enum": sorted(ROLES)})]
"""What texts are for, in the words of several APIs; upper case is as good."""


class EmbeddingRequest(WorkRequest, kw_only=True):
    """The body of POST /v1/embeddings. `input` is a text, several, token ids, or several lists of
    them. `dimensions` shortens the vectors of models that were trained for that. `input_type` says
    what the texts are for, such as "query" or "document": the model's prompt for that is put before
    each text. Without it nothing is."""

    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    truncate_prompt_tokens: Unsupported = None
    normalize: bool | None = None
    input_type: InputType | None = None


class Embedding(Struct, frozen=True):
    """One vector of length 1 (L2). As `base64` it is little-endian numbers of 32 bits."""

    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingUsage(Struct, frozen=True):
    """Tokens of all texts."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(Struct, frozen=True, kw_only=True):
    """The answer of POST /v1/embeddings: the vectors in the order of the texts."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


decode_embedding = msgspec.json.Decoder(EmbeddingRequest).decode
