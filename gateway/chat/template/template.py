"""Chat templates: render messages to the text format that a model was trained on."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

from gateway.chat.template.environment import compile_template, variables_of
from gateway.chat.template.message_support import MessageSupport, adapted, probe_messages
from gateway.chat.template.probe import probe_messages_with_tools, probe_tools
from gateway.chat.template.tool_support import ToolSupport
from runtime.errors import InvalidRequest

RESERVED = frozenset(
    (
        *("messages", "conversations", "chat_template", "tools", "documents"),
        *("add_generation_prompt", "continue_final_message", "return_assistant_tokens_mask"),
    )
)
"""Template variables that requests set by other parameters, or cannot set."""

_NAME = "name7f3a"
_NAMED = ("system", "user", "assistant")


class ChatTemplate:
    """One model's template, compiled.

    `source` is its text, and `reads` are the variables that it reads. `messages` describes the
    messages that the template takes, and `tools` what it does with tools. `shows_names` are the
    roles whose participants' names are in prompts. Creating a ChatTemplate takes milliseconds,
    rendering microseconds.
    """

    def __init__(
        self,
        source: str,
        *,
        bos_token: str,
        eos_token: str,
        special_tokens: Mapping[str, str] | None = None,
    ) -> None:
        """`special_tokens` are further token texts that the template may use, by name. Raises
        ModelFileError if the source is no template."""
        self.source = source
        self._bos_token = bos_token
        self._tokens = {**(special_tokens or {}), "bos_token": bos_token, "eos_token": eos_token}
        self._reserved = RESERVED | self._tokens.keys()
        self._compiled = compile_template(source)
        self.reads = variables_of(source)
        self.messages: MessageSupport = self._probe_messages()
        self.tools: ToolSupport = probe_tools(self._render, self.messages)
        self.shows_names = frozenset(filter(self._shows_name, _NAMED))

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
        self.check_variables(given)
        given["add_generation_prompt"] = add_generation_prompt
        given["tools"] = list(tools) or None
        try:
            if continue_final_message:
                return self._continued(messages, given)
            return self._render(messages, given)
        except Exception as error:  # a template may raise anything
            raise InvalidRequest(
                f"The model's chat template cannot take these messages: {error}", param=param
            ) from error

    def check_variables(self, variables: Mapping[str, Any]) -> None:
        """Raises InvalidRequest for variables that are not for requests to set."""
        if taken := sorted(self._reserved & variables.keys()):
            raise InvalidRequest(
                f"`chat_template_kwargs.{taken[0]}` is not for requests to set: leave it out.",
                param="chat_template_kwargs",
            )

    def writes_bos(self, prompt: str) -> bool:
        """Whether a rendered prompt begins with the model's first token, as some templates do."""
        return bool(self._bos_token) and prompt.startswith(self._bos_token)

    def probe(self, **variables: Any) -> str | None:
        """A prompt of one word with these variables; None if the template refuses them."""
        messages = adapted([{"role": "user", "content": "q"}], self.messages)
        try:
            return self.render(messages, variables=variables)
        except InvalidRequest:
            return None

    def _shows_name(self, role: str) -> bool:
        user: Mapping[str, Any] = {"role": "user", "content": "q"}
        named: Mapping[str, Any] = {"role": role, "content": "q", "name": _NAME}
        shapes = {"system": [named, user], "user": [named], "assistant": [user, named, user]}
        try:
            return _NAME in self.render(adapted(shapes[role], self.messages))
        except InvalidRequest:
            return False

    def _probe_messages(self) -> MessageSupport:
        support = probe_messages(self._render)
        if not support.obstacle:
            return support
        with_tools = probe_messages_with_tools(self._render)
        return support if with_tools.obstacle else with_tools

    def _render(self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]) -> str:
        """Raises whatever the template raises."""
        given = {"documents": None, **variables, **self._tokens, "messages": list(messages)}
        return self._compiled(given)

    def _continued(
        self, messages: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> str:
        """The prompt up to the end of the last message's text, without what the template writes
        behind it."""
        text = _last_text(messages[-1])
        mark = f"end{uuid4().hex} "
        marked = [*messages[:-1], _with_last_text(messages[-1], text + mark)]
        prompt = self._render(marked, variables)
        end = prompt.rfind(mark.rstrip())
        if end < 0 or text.strip() not in prompt:
            raise ValueError("it does not show the whole message that is to be continued")
        is_exact = prompt.startswith(mark, end)
        return prompt[:end] if is_exact else prompt[:end].rstrip()


def _last_text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    text: str = content if isinstance(content, str) else content[-1]["text"]
    return text


def _with_last_text(message: Mapping[str, Any], text: str) -> dict[str, Any]:
    content = message["content"]
    if not isinstance(content, str):
        return {**message, "content": [*content[:-1], {**content[-1], "text": text}]}
    return {**message, "content": text}
