"""The chat templates of a model: which ones it has, and whether they can be used."""

from pathlib import Path

import structlog
from msgspec import Struct
from msgspec.structs import fields, replace

from gateway.chat.reasoning.formats import ReasoningFormat, find_format
from gateway.chat.reasoning.plan import TemplateControls, template_controls
from gateway.chat.template.environment import compile_template
from gateway.chat.template.message_support import MessageSupport
from gateway.chat.template.template import ChatTemplate
from gateway.chat.template.tool_support import ToolSupport
from gateway.chat.tools.dialect import Dialect
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.find_dialect import find_dialect
from gateway.settings.schema import ModelSettings
from runtime.errors import ModelFileError, SetupError
from runtime.tokenizers.chatml import CHATML, knows_chatml
from runtime.tokenizers.tokenizer import Tokenizer

log = structlog.get_logger(__name__)

_MAX_TEMPLATE_BYTES = 1 << 22


class Templates(Struct, frozen=True):
    """A model's chat templates: the ordinary one, and the one for conversations with tools, with
    its tool dialect; and how they react to reasoning settings."""

    default: ChatTemplate
    tool_use: ChatTemplate
    tool_dialect: Dialect
    controls: TemplateControls
    tool_controls: TemplateControls


class FoundTemplates(Struct, frozen=True):
    """`templates` are None if the model cannot chat; `obstacle` says why, as a clause. The format
    of the model's reasoning is that of its ordinary template; None if it does not reason."""

    templates: Templates | None
    reasoning_format: ReasoningFormat | None
    obstacle: str = ""


def read_own_template(path: str) -> str:
    """The text of `model.chat_template`; "" without such a file. Raises SetupError for a file that
    is no template."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_TEMPLATE_BYTES + 1).decode("utf-8")
        compile_template(text)
    except OSError as error:
        raise SetupError(f"model.chat_template: {path}: {error.strerror}") from error
    except (UnicodeDecodeError, ModelFileError) as error:
        raise SetupError(f"model.chat_template: {path}: {error}") from error
    if len(text) > _MAX_TEMPLATE_BYTES:
        raise SetupError(f"model.chat_template: {path}: is longer than any template")
    return text


def find_templates(name: str, tokenizer: Tokenizer, settings: ModelSettings) -> FoundTemplates:
    """The templates of the model of this name: the one of the settings, else its own, else ChatML
    if its vocabulary was made for that. What is wrong with its own is logged. Raises SetupError for
    an unusable `model.chat_template`."""
    own = read_own_template(settings.chat_template)
    text = own or tokenizer.chat_template
    default, obstacle = _usable(tokenizer, text)
    if default is None:
        default = _chatml(name, tokenizer, obstacle)
    if default is None:
        log.error("no_chat", model=name, reason=obstacle)
        return FoundTemplates(None, find_format(settings.reasoning_parser, text), obstacle)
    if adaptations := _adaptations(default):
        log.info("chat_template_adapted", model=name, adaptations=adaptations)
    tool_use = None if own else _tool_template(name, tokenizer)
    reasoning_format = find_format(settings.reasoning_parser, default.source)
    templates = _templates(default, tool_use or default, reasoning_format)
    return FoundTemplates(templates, reasoning_format)


def _usable(tokenizer: Tokenizer, text: str | None) -> tuple[ChatTemplate | None, str]:
    """A template, or why there is none."""
    if not text:
        return None, "it has no chat template"
    try:
        template = ChatTemplate(
            text,
            bos_token=tokenizer.bos_token,
            eos_token=tokenizer.eos_token,
            special_tokens=tokenizer.special_tokens,
        )
    except ModelFileError as error:
        return None, f"its chat template cannot be used: {error}"
    if template.messages.obstacle:
        return None, f"its chat template cannot be used: {template.messages.obstacle}"
    return template, ""


def _adaptations(template: ChatTemplate) -> list[str]:
    """The names of all in which the template does not take what clients send."""
    supports: list[MessageSupport | ToolSupport] = [template.messages]
    if template.tools.shows_messages:
        supports.append(replace(template.tools, shows_tools=False, shows_messages=False))
    return [
        field.name
        for support in supports
        for field in fields(support)
        if getattr(support, field.name) != field.default
    ]


def _chatml(name: str, tokenizer: Tokenizer, obstacle: str) -> ChatTemplate | None:
    if not knows_chatml(tokenizer.control_tokens):
        return None
    log.warning("chat_template_replaced", model=name, reason=obstacle, by="ChatML")
    return _usable(tokenizer, CHATML)[0]


def _tool_template(name: str, tokenizer: Tokenizer) -> ChatTemplate | None:
    """The model's own template for conversations with tools, if there is a usable one."""
    if not tokenizer.tool_template:
        return None
    template, obstacle = _usable(tokenizer, tokenizer.tool_template)
    if template is None:
        log.warning("tool_template_unused", model=name, reason=obstacle)
    return template


def _templates(
    default: ChatTemplate, tool_use: ChatTemplate, reasoning_format: ReasoningFormat | None
) -> Templates:
    shows_tools = tool_use.tools.shows_tools
    return Templates(
        default=default,
        tool_use=tool_use,
        tool_dialect=find_dialect(tool_use.source) if shows_tools else GENERIC,
        controls=template_controls(default, reasoning_format),
        tool_controls=template_controls(tool_use, reasoning_format),
    )
