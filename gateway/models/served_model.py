"""One served model: its engine, tokenizer and templates."""

import asyncio
import copy
import gc
import hashlib
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import structlog
from msgspec import Struct

from gateway.bounds.work_pool import WorkPool
from gateway.chat.reasoning.plan import Reasoner, TemplateControls
from gateway.chat.template.prompt import RenderedPrompt
from gateway.chat.template.template import ChatTemplate
from gateway.chat.tools.dialect import Dialect
from gateway.chat.tools.find_dialect import DIALECTS
from gateway.models.pairs import Cut, Pair, PairEncoder, find_pair_format
from gateway.models.prompts import TextPrompts, find_prompts
from gateway.models.templates import FoundTemplates, Templates, find_templates
from gateway.settings.schema import ModelSettings, Truncation
from runtime.client.handle import EngineHandle
from runtime.errors import ContextLengthExceeded, EngineUnavailable, InvalidRequest
from runtime.messages.engine import EngineInfo
from runtime.models.gguf import read_gguf
from runtime.models.shortened_embeddings import is_matryoshka
from runtime.tokenizers.control_text import ControlTexts
from runtime.tokenizers.decoding import text_pieces
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer
from runtime.version import __version__

log = structlog.get_logger(__name__)

LONG_TEXT = 20_000
"""Characters. Longer prompts are tokenized in a thread, so that they do not block other streams."""

LOADING_RETRY_SECONDS = 2.0

_PROSE = (
    "A conversation of some length has questions, answers, lists and now and then a number. " * 4
)
"""A text that is like many others, to see how many bytes a token has."""


class ServedModel:
    """One model. Until `load` is done and the engine is ready, requests are refused for a retry.

    `lora` is the adapter that the engine adds to the model; "" is none.
    """

    def __init__(
        self,
        name: str,
        engine: EngineHandle,
        settings: ModelSettings | None = None,
        pool: WorkPool | None = None,
    ) -> None:
        self._settings = settings or ModelSettings()
        self._pool = pool or WorkPool()
        self.name = name
        self.lora = ""
        self.engine = engine
        self.created = int(time.time())
        self._files = _Files()

    async def load(self, model_path: str) -> None:
        """Reads the tokenizer and the chat template in a thread. A failure is logged and
        remembered."""
        files = self._files
        files.path, files.error = model_path, ""
        try:
            files.loaded = await asyncio.to_thread(_load, self.name, model_path, self._settings)
        except Exception as error:
            files.error = f"The tokenizer cannot be loaded: {error}"
            log.exception("tokenizer_failed", model=self.name)

    def unload(self) -> None:
        """Forgets what `load` has read."""
        self._files.loaded, self._files.error = None, ""

    def use(self, settings: ModelSettings) -> None:
        """Answers further requests by these settings, except for what `load` has read."""
        self._settings = settings

    def with_adapter(self, name: str) -> "ServedModel":
        """This model under the name of an adapter: a view for one request."""
        adapted = copy.copy(self)
        adapted.name = adapted.lora = name
        return adapted

    @property
    def load_error(self) -> str:
        """Why tokenizer and templates could not be loaded, as a sentence; empty if they could."""
        return self._files.error

    @property
    def _loaded(self) -> "_Loaded | None":
        return self._files.loaded

    @property
    def default_thinking_budget(self) -> int | None:
        """Reasoning tokens allowed if a request sets no budget; None means no limit."""
        budget = self._settings.thinking_token_budget
        return None if budget == "none" else budget

    @property
    def truncation(self) -> Truncation:
        """What becomes of conversations that are too long if a request does not say it."""
        return self._settings.truncation

    @property
    def is_ready(self) -> bool:
        return self.engine.state == "ready" and self._loaded is not None

    @property
    def has_tokenizer(self) -> bool:
        return self._loaded is not None

    @property
    def state_reason(self) -> str:
        """Why the model is not ready, as a sentence; empty when it is."""
        if self.engine.state_reason or self.load_error:
            return self.load_error or self.engine.state_reason
        return "" if self.is_ready else "The model is loading."

    @property
    def max_model_len(self) -> int:
        """Tokens of prompt and answer together. Available only once the model is ready."""
        assert self.engine.limits is not None, "limits are known when the engine is ready"
        return self.engine.limits.max_model_len

    @property
    def system_fingerprint(self) -> str | None:
        """Changes with everything that may change answers: program, engine, model. None if the
        settings disable it."""
        if not self._settings.system_fingerprint:
            return None
        return _fingerprint(self.name, self.engine.info)

    def check_loaded(self) -> None:
        """Raises EngineUnavailable until tokenizer and engine have been loaded once."""
        if self._loaded is None or self.engine.limits is None:
            raise EngineUnavailable(self.state_reason, retry_after=LOADING_RETRY_SECONDS)

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises EngineUnavailable while the model is not ready."""
        return self._checked.tokenizer

    @property
    def control_texts(self) -> ControlTexts:
        """The texts that clients may write and that are no control tokens then. Raises what
        `tokenizer` raises."""
        return self._checked.control_texts

    @property
    def bytes_per_token(self) -> float:
        """About how many bytes of text a token has. Raises what `tokenizer` raises."""
        return self._checked.bytes_per_token

    @property
    def text_prompts(self) -> TextPrompts:
        """What an embedding model wants before a text. Raises what `tokenizer` raises."""
        return self._checked.prompts

    @property
    def reasoner(self) -> Reasoner | None:
        """None until the model is loaded, and if it does not reason."""
        return None if self._loaded is None else self._loaded.reasoner

    async def encode_prompt(
        self, prompt: RenderedPrompt, *, most: int | None = None, param: str = "messages"
    ) -> list[int]:
        """Token ids of a conversation's prompt. Raises what `encode` raises."""
        add_special = not prompt.has_bos
        if not prompt.pieces:
            [token_ids] = await self.encode(
                [prompt.text], add_special=add_special, most=most, param=param
            )
            return token_ids
        encode = partial(self.control_texts.encode, prompt.pieces, add_special=add_special)
        if len(prompt.text) <= LONG_TEXT:
            return encode()
        await self._pool.run(partial(self.check_length, prompt.text, most=most, param=param))
        return await self._pool.run(encode)

    async def encode(
        self,
        texts: Sequence[str],
        *,
        add_special: bool,
        parse_special: bool = True,
        most: int | None = None,
        param: str = "prompt",
        places: Sequence[str] = (),
    ) -> list[list[int]]:
        """Token ids of prompts; see `Tokenizer.encode`. Raises ContextLengthExceeded, which names
        the request parameter `param`, for a long text that has certainly more than `most` tokens:
        such a text is not tokenized. Texts with `places` are named by these and are no prompts."""
        encode = partial(
            self.tokenizer.encode, add_special=add_special, parse_special=parse_special
        )
        if sum(map(len, texts)) <= LONG_TEXT:
            return [encode(text) for text in texts]
        check = partial(self.check_length, most=most, is_prompt=not places)
        named = zip(texts, places or [param] * len(texts), strict=True)
        return await self._pool.run(lambda: [encode(check(text, param=at)) for text, at in named])

    def check_length(
        self, text: str, *, most: int | None, param: str, is_prompt: bool = True
    ) -> str:
        """The same text, which may have `most` tokens. Raises ContextLengthExceeded for a long text
        that has certainly more."""
        if most is None or len(text) <= LONG_TEXT:
            return text
        if (least := self.tokenizer.least_tokens(text)) > most:
            too_long = (
                ContextLengthExceeded.by_prompt if is_prompt else ContextLengthExceeded.by_text
            )
            raise too_long(least, most, param=param, is_least=True)
        return text

    async def encode_pairs(self, pairs: Sequence[Pair], cut: Cut, most: int) -> list[list[int]]:
        """Token ids of what a reranker reads. Raises what `PairEncoder.encode` raises."""
        encoder = self._checked.pairs
        assert encoder is not None, "an engine that ranks has a model file that says how"
        encode = partial(encoder.encode, pairs, cut, most)
        if sum(len(pair.query) + len(pair.document) for pair in pairs) <= LONG_TEXT:
            return encode()
        return await self._pool.run(encode)

    async def is_matryoshka(self) -> bool:
        """Whether a prefix of the model's embedding is an embedding too."""
        if self._settings.is_matryoshka != "auto":
            return self._settings.is_matryoshka
        return await asyncio.to_thread(is_matryoshka, self._files.path)

    def decode(self, token_ids: list[int]) -> str:
        """The text of a prompt that was sent as token ids."""
        return b"".join(text_pieces(self.tokenizer, token_ids)).decode("utf-8", "replace")

    @property
    def chat_template(self) -> str | None:
        """The text of the template that ordinary conversations are rendered with; None if the model
        cannot chat."""
        templates = self._checked.templates.templates
        return None if templates is None else templates.default.source

    @property
    def template(self) -> ChatTemplate:
        """Raises EngineUnavailable while the model is not ready, InvalidRequest if it has none."""
        return self._loaded_templates.default

    @property
    def tool_template(self) -> ChatTemplate:
        """The template for conversations with tools, which may be the same one. Raises what
        `template` raises."""
        return self._loaded_templates.tool_use

    @property
    def tool_dialect(self) -> Dialect:
        """How the model calls tools; raises what `template` raises."""
        if self._settings.tool_dialect != "auto":
            return DIALECTS[self._settings.tool_dialect]
        return self._loaded_templates.tool_dialect

    def template_controls(self, template: ChatTemplate) -> TemplateControls:
        """How one of the model's templates reacts to reasoning settings."""
        templates = self._loaded_templates
        return templates.tool_controls if template is templates.tool_use else templates.controls

    @property
    def _loaded_templates(self) -> Templates:
        found = self._checked.templates
        if found.templates is None:
            raise InvalidRequest(
                f"The model `{self.name}` cannot chat: {found.obstacle}. Use /v1/completions, or"
                " serve it with a template of your own (model.chat_template).",
                param="model",
                code="unsupported_value",
            )
        return found.templates

    @property
    def _checked(self) -> "_Loaded":
        self.check_loaded()
        assert self._loaded is not None, "loaded"
        return self._loaded


class _Files:
    """What was read of a model's files, which all views of the model share."""

    def __init__(self) -> None:
        self.path = ""
        self.error = ""
        self.loaded: _Loaded | None = None


class _Loaded(Struct, frozen=True):
    tokenizer: Tokenizer
    control_texts: ControlTexts
    templates: FoundTemplates
    reasoner: Reasoner | None
    pairs: PairEncoder | None
    prompts: TextPrompts
    bytes_per_token: float


def _load(name: str, model_path: str, settings: ModelSettings) -> _Loaded:
    tokenizer = load_tokenizer(model_path)
    found = find_templates(name, tokenizer, settings)
    message, reasoning_format = settings.thinking_budget_message, found.reasoning_format
    reasoner = None if reasoning_format is None else Reasoner(reasoning_format, tokenizer, message)
    control_texts = ControlTexts(tokenizer)
    pairs = _pair_encoder(model_path, tokenizer, control_texts)
    prompts = find_prompts(model_path, settings.prompts)
    bytes_per_token = _bytes_per_token(tokenizer)
    loaded = _Loaded(tokenizer, control_texts, found, reasoner, pairs, prompts, bytes_per_token)
    gc.collect()
    gc.freeze()  # the vocabulary lives as long as the process: never walk it again
    return loaded


def _bytes_per_token(tokenizer: Tokenizer) -> float:
    token_ids = tokenizer.encode(_PROSE, add_special=False, parse_special=False)
    return len(_PROSE.encode()) / max(len(token_ids), 1)


def _pair_encoder(
    model_path: str, tokenizer: Tokenizer, control_texts: ControlTexts
) -> PairEncoder | None:
    """None for a model that is no reranker."""
    if not Path(model_path).is_file():
        return None
    pair_format = find_pair_format(read_gguf(model_path), tokenizer)
    return None if pair_format is None else PairEncoder(tokenizer, control_texts, pair_format)


@lru_cache(maxsize=8)
def _fingerprint(model_name: str, info: EngineInfo | None) -> str:
    engine = f"{info.engine} {info.version} {info.device}" if info else ""
    digest = hashlib.sha256(f"{__version__} {engine} {model_name}".encode())
    return f"fp_{digest.hexdigest()[:10]}"
