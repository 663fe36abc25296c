"""What is served: models by name, each with its engine, tokenizer, template and way of thinking."""

import asyncio
import gc
import hashlib
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial

import structlog

from gateway.errors import UnknownModel
from gateway.parsing.styles import find_style
from gateway.reasoning import Hearing, Reasoner, hearing_of
from gateway.settings import ModelSettings
from gateway.template import ChatTemplate
from runtime import (
    EngineClient,
    EngineInfo,
    EngineUnavailable,
    InvalidRequest,
    Tokenizer,
    __version__,
    load_tokenizer,
)

log = structlog.get_logger(__name__)

LONG_TEXT = 20_000
"""Characters. Longer prompts are tokenised in a thread, so that they hold up nobody's stream."""

LOADING_RETRY_SECONDS = 2.0


class ServedModel:
    """One model. Until `load` is done and the engine is ready, requests are told to come back."""

    def __init__(
        self, name: str, client: EngineClient, settings: ModelSettings | None = None
    ) -> None:
        self._settings = settings or ModelSettings()
        self.reasoner: Reasoner | None = None
        self.hearing = Hearing()
        self.name = name
        self.client = client
        self.created = int(time.time())
        self._template: ChatTemplate | None = None
        self.load_error = ""
        self._tokenizer: Tokenizer | None = None

    async def load(self, model_path: str) -> None:
        """Read tokenizer and chat template, in a thread. A failure is logged and remembered."""
        try:
            loaded = await asyncio.to_thread(_load, model_path)
        except Exception as error:
            self.load_error = f"The tokenizer cannot be loaded: {error}"
            log.exception("tokenizer_failed", model=self.name)
            return
        self._tokenizer, self._template = loaded
        self.reasoner = _reasoner(self._settings, self._tokenizer)
        if self._template is not None:
            style = None if self.reasoner is None else self.reasoner.style
            self.hearing = hearing_of(self._template, style)

    @property
    def default_thinking_budget(self) -> int | None:
        """Tokens that the model may think where a request does not say; None is no limit."""
        budget = self._settings.thinking_token_budget
        return None if budget == "none" else budget

    @property
    def is_ready(self) -> bool:
        return self.client.state == "ready" and self._tokenizer is not None

    @property
    def state_reason(self) -> str:
        """Why the model is not ready, as a sentence; empty when it is."""
        if self.client.state_reason or self.load_error:
            return self.load_error or self.client.state_reason
        return "" if self.is_ready else "The model is loading."

    @property
    def max_model_len(self) -> int:
        """Tokens, prompt and answer together. Only of a ready model."""
        assert self.client.limits is not None, "limits are known when the engine is ready"
        return self.client.limits.max_model_len

    @property
    def system_fingerprint(self) -> str:
        """Changes with whatever may change answers: program, engine, model."""
        return _fingerprint(self.name, self.client.info)

    def check_loaded(self) -> None:
        """Raises EngineUnavailable until tokenizer and engine have been loaded once."""
        if self._tokenizer is None or self.client.limits is None:
            raise EngineUnavailable(self.state_reason, retry_after=LOADING_RETRY_SECONDS)

    @property
    def tokenizer(self) -> Tokenizer:
        """Raises EngineUnavailable while the model is not ready."""
        self.check_loaded()
        assert self._tokenizer is not None, "loaded"
        return self._tokenizer

    async def encode(
        self, texts: Sequence[str], *, add_special: bool, parse_special: bool = True
    ) -> list[list[int]]:
        """Token ids of prompts; see `Tokenizer.encode`."""
        encode = partial(
            self.tokenizer.encode, add_special=add_special, parse_special=parse_special
        )
        if sum(map(len, texts)) <= LONG_TEXT:
            return [encode(text) for text in texts]
        return await asyncio.to_thread(lambda: [encode(text) for text in texts])

    def decode(self, token_ids: list[int]) -> str:
        """Text of a prompt that came as token ids."""
        pieces = [self.tokenizer.token_bytes(token_id) for token_id in token_ids]
        return b"".join(pieces).decode("utf-8", "replace")

    @property
    def template(self) -> ChatTemplate:
        """Raises EngineUnavailable while the model is not ready, InvalidRequest if it has none."""
        self.check_loaded()
        if self._template is None:
            raise InvalidRequest(
                f"The model `{self.name}` has no chat template: it continues texts, it does not"
                " chat. Use /v1/completions.",
                param="model",
                code="unsupported_value",
            )
        return self._template


class ModelRegistry:
    """Models by the name that requests use."""

    def __init__(self, models: list[ServedModel]) -> None:
        self._models = {model.name: model for model in models}

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def get(self, name: str) -> ServedModel:
        """Raises UnknownModel."""
        model = self._models.get(name)
        if model is None:
            raise UnknownModel(name, list(self._models))
        return model


def _load(model_path: str) -> tuple[Tokenizer, ChatTemplate | None]:
    tokenizer = load_tokenizer(model_path)
    template = None
    if tokenizer.chat_template:
        template = ChatTemplate(
            tokenizer.chat_template,
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
            special_tokens=tokenizer.special_tokens,
        )
    gc.collect()
    gc.freeze()  # the vocabulary lives as long as the process: never walk it again
    return tokenizer, template


def _reasoner(settings: ModelSettings, tokenizer: Tokenizer) -> Reasoner | None:
    style = find_style(settings.reasoning_parser, tokenizer.chat_template)
    if style is None:
        return None
    return Reasoner(style, tokenizer, settings.thinking_budget_message)


@lru_cache(maxsize=8)
def _fingerprint(model_name: str, info: EngineInfo | None) -> str:
    engine = f"{info.engine} {info.version} {info.device}" if info else ""
    digest = hashlib.sha256(f"{__version__} {engine} {model_name}".encode())
    return f"fp_{digest.hexdigest()[:10]}"
