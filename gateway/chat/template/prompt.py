"""A conversation to the text of its prompt, whatever shape of messages the model's template takes.
Pure."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.chat.conversation import Conversation
from gateway.chat.template.message_support import MessageSupport, adapted, strictest
from gateway.chat.template.messages import template_messages
from gateway.chat.template.plain_text import PlainText
from gateway.chat.template.template import ChatTemplate
from gateway.chat.template.tool_prompt import with_instructions
from gateway.chat.template.tool_support import ToolSupport
from runtime.errors import InvalidRequest
from runtime.tokenizers.control_text import ControlTexts

_Messages = list[Mapping[str, Any]]


class RenderedPrompt(Struct, frozen=True):
    """A rendered prompt. With `has_bos` it begins with the model's first token. `pieces` are empty
    if all of the text may be read for control tokens; otherwise they are the text in the form that
    `ControlTexts.encode` takes."""

    text: str
    has_bos: bool
    pieces: tuple[str, ...] = ()


def render_conversation(
    conversation: Conversation,
    template: ChatTemplate,
    variables: Mapping[str, Any],
    control: ControlTexts,
) -> RenderedPrompt:
    """The prompt with every word of the conversation, in the form that the template takes.

    If the template refuses that form, the plainest is tried: turns of user and assistant, with
    calls and results as text. Raises InvalidRequest, with the first refusal, if the template
    refuses both.
    """
    _check(conversation, template)
    template.check_variables(variables)
    rendering = _Rendering(conversation, template, variables, control)
    messages = rendering.messages(template.messages, template.tools)
    try:
        return rendering.prompt_of(messages)
    except InvalidRequest as refusal:
        no_calls = replace(template.tools, shows_messages=False)
        plain = rendering.messages(strictest(template.messages), no_calls)
        if plain == messages:
            raise
        try:
            return rendering.prompt_of(plain)
        except InvalidRequest:
            raise refusal from refusal.__cause__


def _check(conversation: Conversation, template: ChatTemplate) -> None:
    param = conversation.param
    if not conversation.turns:
        raise InvalidRequest(
            f"`{param}` has nothing that a chat template could show. Send at least one message.",
            param=param,
        )
    if len(conversation.turns) > 1 and not template.messages.shows_history:
        raise InvalidRequest(
            "The model's chat template does not show all messages of a conversation. Send a single"
            " message of a user, or serve the model with another template (model.chat_template).",
            param=param,
        )


class _Rendering:
    """What the forms of one conversation have in common."""

    def __init__(
        self,
        conversation: Conversation,
        template: ChatTemplate,
        variables: Mapping[str, Any],
        control: ControlTexts,
    ) -> None:
        self._conversation = conversation
        self._template = template
        self._variables = variables
        self._control = control
        tools = conversation.tools
        self._tools = [] if tools is None else tools.as_template_tools()

    def messages(self, support: MessageSupport, tool_support: ToolSupport) -> _Messages:
        messages = template_messages(self._conversation.turns, tool_support)
        if self._tools and not tool_support.shows_tools:
            messages = with_instructions(messages, self._tools)
        return adapted(messages, support)

    def prompt_of(self, messages: _Messages) -> RenderedPrompt:
        """Raises InvalidRequest if the template refuses the messages."""
        given = {"messages": messages, "tools": self._tools, "variables": self._variables}
        try:
            return self._guarded(given)
        except RecursionError as error:
            message = "The conversation or its tools are nested too deeply."
            raise InvalidRequest(message, param=self._conversation.param) from error

    def _guarded(self, given: Mapping[str, Any]) -> RenderedPrompt:
        if not self._control.may_be_in(given):
            text = self._render(given)
            return RenderedPrompt(text, self._template.writes_bos(text))
        plain_text = PlainText(self._control)
        pieces = plain_text.pieces(self._render(plain_text.guarded(given)))
        has_bos = self._template.writes_bos(pieces[0])
        return RenderedPrompt("".join(pieces), has_bos, pieces if len(pieces) > 1 else ())

    def _render(self, given: Mapping[str, Any]) -> str:
        conversation = self._conversation
        return self._template.render(
            **given,
            add_generation_prompt=conversation.opens_answer and not conversation.continues_last,
            continue_final_message=conversation.continues_last,
            param=conversation.param,
        )
