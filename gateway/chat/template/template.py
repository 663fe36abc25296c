"""Chat templates: render messages to the text format that a model was trained on."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from gateway.chat.template.probe import Render, probe_tools
from runtime.errors import InvalidRequest

RESERVED = frozenset(
    (
        *("messages", "conversations", "chat_template", "tools", "documents"),
        *("add_generation_prompt", "continue_final_message", "return_assistant_tokens_mask"),
    )
)
"""Template variables that requests set by other parameters, or cannot set."""


class RenderedPrompt(Struct, frozen=True):
    """A rendered prompt. With `has_bos` it begins with the model's first token."""

    text: str
    has_bos: bool


class ChatTemplate:
    """One model's template, compiled.

    `tools` describes how the template handles tools. Creating a ChatTemplate takes a second, most
    of it the import of the template machinery; rendering takes microseconds.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str,
        eos_token: str,
        special_tokens: Mapping[str, str] | None = None,
    ) -> None:
        """`special_tokens` are further token texts that the template may use, by name."""
        self._bos_token = bos_token
        tokens = {**(special_tokens or {}), "bos_token": bos_token, "eos_token": eos_token}
        self._reserved = RESERVED | tokens.keys()
        self._render = _compile(source, tokens)
        self.tools = probe_tools(self._render)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        param: str = "messages",
    ) -> str:
        """The prompt for the next answer, or for a continuation of the last message. `variables`
        are passed to the template. `tools` are the tools that the model may call. A template's
        refusal is reported as a mistake in the messages, which are the request parameter
        `param`."""
        given = dict(variables or {})
        if taken := sorted(self._reserved & given.keys()):
            raise InvalidRequest(
                f"`chat_template_kwargs.{taken[0]}` is not for requests to set: leave it out.",
                param="chat_template_kwargs",
            )
        given["add_generation_prompt"] = add_generation_prompt
        given["continue_final_message"] = continue_final_message
        given["tools"] = list(tools) or None
        try:
            return self._render(list(messages), given)
        except Exception as error:
            raise InvalidRequest(
                f"The model's chat template cannot take these messages: {error}",
                param=param,
            ) from error

    def render_prompt(
        self, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> RenderedPrompt:
        """The prompt, and whether it has the model's first token already. `options` are those of
        `render`."""
        text = self.render(messages, **options)
        return RenderedPrompt(text, self.writes_bos(text))

    def writes_bos(self, prompt: str) -> bool:
        """Whether a rendered prompt begins with the model's first token, as some templates do."""
        return bool(self._bos_token) and prompt.startswith(self._bos_token)

    def probe(self, **variables: Any) -> str | None:
        """A prompt of one word with these variables; None if the template refuses them."""
        try:
            return self.render([{"role": "user", "content": "q"}], variables=variables)
        except InvalidRequest:
            return None


def _compile(source: str, tokens: Mapping[str, str]) -> Render:
    render_jinja_template = _template_machinery()

    def render(messages: list[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        prompts, _ = render_jinja_template(
            conversations=[messages],
            chat_template=source,
            **variables,
            **tokens,
        )
        prompt: str = prompts[0]
        return prompt

    return render


def _template_machinery() -> Any:
    # Imported here because it takes most of a second, which the loading thread has. Its advice to
    # install a deep-learning framework would only worry the reader of our log.
    advice = logging.getLogger("transformers")
    advice.disabled = True
    try:
        from transformers.utils.chat_template_utils import render_jinja_template
    finally:
        advice.disabled = False
    return render_jinja_template
