"""GET /tokenizer_info: what a client needs to make prompts by itself, in vLLM's form."""

from typing import Any

from litestar import get
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.generation.writer import encode
from gateway.http.context import AnyRequest, CurrentContext, model_of
from gateway.http.json_response import JSONBytes
from gateway.http.loading.wait import until_loaded
from gateway.http.route_facts import facts
from gateway.models.served_model import ServedModel

TOKEN_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")


class TokenizerInfo(Struct, frozen=True, kw_only=True):
    """The answer of GET /tokenizer_info. `model_max_length` is the context in tokens. A token that
    the model does not have is null, and so is a missing chat template."""

    model: str
    model_max_length: int
    vocab_size: int
    bos_token: str | None = None
    eos_token: str | None = None
    pad_token: str | None = None
    unk_token: str | None = None
    chat_template: str | None = None


@get(
    "/tokenizer_info",
    opt=facts(answer=TokenizerInfo, errors=(401, 403, 429, 503)),
)
async def tokenizer_info(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """The special tokens and the chat template of the model."""
    model = await model_of(context, request, None)
    await until_loaded(request)
    return JSONBytes(encode(_describe(model)))


def _describe(model: ServedModel) -> TokenizerInfo:
    tokenizer = model.tokenizer
    named: dict[str, Any] = {name: tokenizer.special_tokens.get(name) for name in TOKEN_NAMES}
    return TokenizerInfo(
        model=model.name,
        model_max_length=model.max_model_len,
        vocab_size=tokenizer.vocab_size,
        chat_template=model.chat_template,
        **{name: text or None for name, text in named.items()},
    )
