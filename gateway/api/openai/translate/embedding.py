"""Inputs of /v1/embeddings to texts or token ids, and vectors to the client's encoding."""

import base64
import math
import sys
from array import array
from collections.abc import Sequence

from gateway.api.openai.protocol.embedding import (
    MAX_INPUTS,
    MAX_TOKENS,
    Embedding,
    EmbeddingRequest,
    Inputs,
)
from gateway.api.openai.translate.unsupported import refuse_parameter
from gateway.models.prompts import ROLES
from gateway.settings.schema import TextRole
from runtime.errors import ContextLengthExceeded, InvalidRequest


def given_inputs(data: EmbeddingRequest) -> Inputs:
    """The texts, or the lists of token ids, of a request: at least one, and none of them empty.
    Raises InvalidRequest, also for fields that are not supported."""
    if data.truncate_prompt_tokens is not None:
        refuse_parameter("truncate_prompt_tokens")
    if data.normalize is False:
        refuse_parameter("normalize")
    inputs = _uniform(data.input)
    if len(inputs) > MAX_INPUTS:
        raise InvalidRequest(
            f"`input` has {len(inputs)} texts; a request may have {MAX_INPUTS}. Send several"
            " requests.",
            param="input",
        )
    for index, item in enumerate(inputs):
        if not item:
            where = input_place(data, index)
            raise InvalidRequest(f"`{where}` is empty: there is nothing to embed.", param=where)
    return inputs


def text_role(input_type: str) -> TextRole:
    """What an `input_type` says that texts are for. Raises InvalidRequest for one that no API
    has."""
    role = ROLES.get(input_type.lower())
    if role is None:
        known = ", ".join(f'"{name}"' for name in sorted(set(ROLES.values())))
        raise InvalidRequest(f"`input_type` is one of {known}.", param="input_type")
    return role


def with_prompt(prompt: str, inputs: Inputs) -> list[str]:
    """The texts with a prompt before each. Raises InvalidRequest for token ids, which have no place
    for one."""
    texts = [item for item in inputs if isinstance(item, str)]
    if len(texts) < len(inputs):
        raise InvalidRequest(
            "`input_type` puts a prompt before texts, and `input` has token ids: send texts, or put"
            " the prompt's tokens before them and leave `input_type` out.",
            param="input_type",
        )
    return [prompt + text for text in texts]


def input_place(data: EmbeddingRequest, index: int) -> str:
    """The place of a text in the request."""
    is_list = isinstance(data.input, list) and not isinstance(data.input[0], int)
    return f"input[{index}]" if is_list else "input"


def check_tokens(
    data: EmbeddingRequest, inputs: Sequence[Sequence[int]], *, most: int, vocab_size: int
) -> None:
    """Raises InvalidRequest for token ids that the model does not have, for a text of more than
    `most` tokens, and for too many tokens altogether. Nothing is cut off."""
    for index, token_ids in enumerate(inputs):
        where = input_place(data, index)
        if not token_ids:
            raise InvalidRequest(f"`{where}` has no tokens in this model.", param=where)
        if min(token_ids) < 0 or max(token_ids) >= vocab_size:
            raise InvalidRequest(
                f"`{where}` has a token id outside the vocabulary: ids are 0 to {vocab_size - 1}.",
                param=where,
            )
        if len(token_ids) > most:
            raise ContextLengthExceeded.by_text(len(token_ids), most, param=where)
    num_tokens = sum(map(len, inputs))
    if num_tokens > MAX_TOKENS:
        raise InvalidRequest(
            f"`input` has {num_tokens} tokens; a request may have {MAX_TOKENS}. Send several"
            " requests.",
            param="input",
            code="max_tokens_per_request",
        )


def encoded(index: int, vector: bytes, data: EmbeddingRequest) -> Embedding:
    """A vector in the client's encoding."""
    if data.dimensions is not None:
        vector = shortened(vector, data.dimensions)
    if data.encoding_format == "base64":
        return Embedding(index, base64.b64encode(vector).decode("ascii"))
    return Embedding(index, _numbers(vector).tolist())


def shortened(vector: bytes, dimensions: int) -> bytes:
    """The first numbers of a vector, scaled to length 1 again (Kusupati et al. 2022, "Matryoshka
    Representation Learning")."""
    values = _numbers(vector)
    if dimensions == len(values):
        return vector
    head = values[:dimensions]
    length = math.hypot(*head) or 1.0
    return _little_endian(array("f", [value / length for value in head])).tobytes()


def _numbers(vector: bytes) -> "array[float]":
    return _little_endian(array("f", vector))


def _little_endian(values: "array[float]") -> "array[float]":
    """Converts numbers to the byte order of vectors, and back."""
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _uniform(given: str | list[str | int | list[int]]) -> Inputs:
    if isinstance(given, str):
        return [given]
    if not given:
        raise InvalidRequest("`input` is an empty list.", param="input")
    texts = [item for item in given if isinstance(item, str)]
    lists = [item for item in given if isinstance(item, list)]
    if len(texts) == len(given):
        return texts
    if len(lists) == len(given):
        return lists
    if texts or lists:
        raise InvalidRequest(
            "`input` mixes kinds: send texts, or token ids, or lists of token ids.",
            param="input",
            code="invalid_type",
        )
    return [[item for item in given if isinstance(item, int)]]
