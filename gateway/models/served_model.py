"""One served model: its engine, tokenizer and templates."""

import asyncio
import copy
import gc
import hashlib
import time
from collections.abc import Sequence
from functools import lru_cache, partial

import structlog
from msgspec import Struct

from gateway.bounds.work_pool import WorkPool
from gateway.chat.reasoning.formats import ReasoningFormat, find_format
from gateway.chat.reasoning.plan import Reasoner, TemplateControls, template_controls
from gateway.chat.template.template import ChatTemplate
from gateway.chat.tools.dialect import Dialect
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.find_dialect import DIALECTS, find_dialect
from gateway.settings.schema import ModelSettings
from runtime.client.handle import EngineHandle
from runtime.errors import ContextLengthExceeded, EngineUnavailable, InvalidRequest
from runtime.messages.engine import EngineInfo
from runtime.models.shortened_embeddings import is_matryoshka
from runtime.tokenizers.decoding import text_pieces
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer
from runtime.version import __version__

log = structlog.get_logger(__name__)

LONG_TEXT = 20_000
"""Characters. Longer prompts are tokenized in a thread, so that they do not block other streams."""

LOADING_RETRY_SECONDS = 2.0


class ServedModel:
    """One model. Until `load` is done and the engine is ready, requests are refused for a retry.

    `lora` is the adapter that the engine adds to the model; "" is none. `reasoner` is None until
    the model is loaded, and stays None if the model does not reason.
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
        self.reasoner: Reasoner | None = None
        self.name = name
        self.lora = ""
        self.engine = engine
        self.created = int(time.time())
        self._templates: Templates | None = None
        self.load_error = ""
        self._tokenizer: Tokenizer | None = None
        self._model_path = ""

    async def load(self, model_path: str) -> None:
        """Reads the tokenizer and the chat template in a thread. A failure is logged and
        remembered."""
        self._model_path = model_path
        try:
            loaded = await asyncio.to_thread(_load, model_path, self._settings)
        except Exception as error:
            self.load_error = f"The tokenizer cannot be loaded: {error}"
            log.exception("tokenizer_failed", model=self.name)
            return
        self._tokenizer, self._templates, self.reasoner = loaded

    def with_adapter(self, name: str) -> "ServedModel":
        """This model as it is now, under the name of an adapter: a view for one request."""
        adapted = copy.copy(self)
        adapted.name = adapted.lora = name
        return adapted

    @property
    def default_thinking_budget(self) -> int | None:
        """Reasoning tokens allowed if a request sets no budget; None means no limit."""
        budget = self._settings.thinking_token_budget
        return None if budget == "none" else budget

    @property
    def is_ready(self) -> bool:
        return self.engine.state == "ready" and self._tokenizer is not None

    @property
    def has_tokenizer(self) -> bool:
        return self._tokenizer is not None

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
        if self._tokenizer is None or self.engine.limits is None:
            raise EngineUnavailable(self.state_reason, retry_after=LOADING_RETRY_SECONDS)

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises EngineUnavailable while the model is not ready."""
        self.check_loaded()
        assert self._tokenizer is not None, "loaded"
        return self._tokenizer

    async def encode(
        self,
        texts: Sequence[str],
        *,
        add_special: bool,
        parse_special: bool = True,
        most: int | None = None,
        param: str = "prompt",
    ) -> list[list[int]]:
        """Token ids of prompts; see `Tokenizer.encode`. Raises ContextLengthExceeded, which names
        the request parameter `param`, for a long text that has certainly more than `most` tokens:
        such a text is not tokenized."""
        encode = partial(
            self.tokenizer.encode, add_special=add_special, parse_special=parse_special
        )
        if sum(map(len, texts)) <= LONG_TEXT:
            return [encode(text) for text in texts]
        check = partial(_check_length, self.tokenizer, most=most, param=param)
        return await self._pool.run(lambda: [encode(check(text)) for text in texts])

    async def is_matryoshka(self) -> bool:
        """Whether a prefix of the model's embedding is an embedding too."""
        if self._settings.is_matryoshka != "auto":
            return self._settings.is_matryoshka
        return await asyncio.to_thread(is_matryoshka, self._model_path)

    def decode(self, token_ids: list[int]) -> str:
        """The text of a prompt that was sent as token ids."""
        return b"".join(text_pieces(self.tokenizer, token_ids)).decode("utf-8", "replace")

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
    def _loaded_templates(self) -> "Templates":
        self.check_loaded()
        if self._templates is None:
            raise InvalidRequest(
                f"The model `{self.name}` has no chat template: it continues texts, it does not"
                " chat. Use /v1/completions.",
                param="model",
                code="unsupported_value",
            )
        return self._templates


class Templates(Struct, frozen=True):
    """A model's chat templates: the ordinary one, and the one for conversations with tools, with
    its tool dialect; and how they react to reasoning settings."""

    default: ChatTemplate
    tool_use: ChatTemplate
    tool_dialect: Dialect
    controls: TemplateControls
    tool_controls: TemplateControls


def _load(
    model_path: str, settings: ModelSettings
) -> tuple[Tokenizer, Templates | None, Reasoner | None]:
    tokenizer = load_tokenizer(model_path)
    source = tokenizer.chat_template
    reasoning_format = find_format(settings.reasoning_parser, source)
    templates = _templates(tokenizer, source, reasoning_format) if source else None
    message = settings.thinking_budget_message
    reasoner = None if reasoning_format is None else Reasoner(reasoning_format, tokenizer, message)
    gc.collect()
    gc.freeze()  # the vocabulary lives as long as the process: never walk it again
    return tokenizer, templates, reasoner


def _templates(
    tokenizer: Tokenizer, source: str, reasoning_format: ReasoningFormat | None
) -> Templates:
    default = tool_use = _template(tokenizer, source)
    if tokenizer.tool_template:
        source = tokenizer.tool_template
        tool_use = _template(tokenizer, source)
    dialect = find_dialect(source) if tool_use.tools.shows_tools else GENERIC
    controls = (template_controls(template, reasoning_format) for template in (default, tool_use))
    return Templates(default, tool_use, dialect, *controls)


def _template(tokenizer: Tokenizer, source: str) -> ChatTemplate:
    return ChatTemplate(
        source,
        bos_token=tokenizer.bos_token,
        eos_token=tokenizer.eos_token,
        special_tokens=tokenizer.special_tokens,
    )


def _check_length(tokenizer: Tokenizer, text: str, *, most: int | None, param: str) -> str:
    """The same text, which may have `most` tokens. Raises ContextLengthExceeded."""
    if most is not None and (least := tokenizer.least_tokens(text)) > most:
        raise ContextLengthExceeded.by_prompt(least, most, param=param, is_least=True)
    return text


@lru_cache(maxsize=8)
def _fingerprint(model_name: str, info: EngineInfo | None) -> str:
    engine = f"{info.engine} {info.version} {info.device}" if info else ""
    digest = hashlib.sha256(f"{__version__} {engine} {model_name}".encode())
    return f"fp_{digest.hexdigest()[:10]}"
