"""The messages that a chat template takes: found out by rendering with it, and made of others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], Mapping[str, Any]], str]
"""Renders messages and variables to a prompt; raises whatever the template raises."""

SystemPlace = Literal["anywhere", "first", "nowhere"]

_ALL = ("user", "assistant", "system")


class MessageSupport(Struct, frozen=True, kw_only=True):
    """What a template does with messages.

    `parts` are the roles whose content has to be a list of parts; the others' is text. `system` is
    where the template shows system messages, and `system_alone` whether it shows one without any
    other message. `alternates`: two messages of one role must not follow each other.
    `begins_with_user`: the assistant must not begin. `shows_history`: the prompt shows all
    messages, not only some. `obstacle` says why the template shows not even one message of a user;
    "" if it does.
    """

    parts: frozenset[str] = frozenset()
    system: SystemPlace = "anywhere"
    system_alone: bool = True
    alternates: bool = False
    begins_with_user: bool = False
    shows_history: bool = True
    obstacle: str = ""


def adapted(messages: Sequence[Message], support: MessageSupport) -> list[Message]:
    """The messages in a form that the template takes, with all their words. What has no place of
    its own becomes a user's message, or a part of one."""
    placed = _with_system_placed(messages, support)
    if support.alternates:
        placed = merged(placed, _ALL)
    if support.begins_with_user:
        placed = _begun_by_user(placed)
    if not support.parts:
        return placed
    return [_in_parts(each) if each["role"] in support.parts else each for each in placed]


def strictest(support: MessageSupport) -> MessageSupport:
    """The support of a template that takes nothing but turns of user and assistant."""
    return replace(support, system="nowhere", alternates=True, begins_with_user=True)


def merged(messages: Iterable[Message], roles: Sequence[str]) -> list[Message]:
    """Consecutive messages of one of these roles as one message. Calls stay apart."""
    joined: list[Message] = []
    group: list[Message] = []
    for message in messages:
        if group and not _belongs(message, group[-1], roles):
            joined.append(_joined(group))
            group = []
        group.append(message)
    return [*joined, _joined(group)] if group else joined


def probe_messages(render: Render) -> MessageSupport:
    """Tries small conversations of every shape, without tools. Of the forms in which a template
    shows a shape, the one nearest to the client's messages is taken."""
    support = MessageSupport()
    for shapes, forms in _STAGES:
        candidates = [form(support) for form in forms]
        shown = (each for each in candidates if all(_shows(render, s, each) for s in shapes))
        support = next(shown, support)
    if obstacle := _obstacle(render, support):
        return MessageSupport(obstacle=obstacle)
    return replace(support, shows_history=_shows(render, "uau", support))


def words_of(roles: str) -> list[dict[str, Any]]:
    """A conversation of one word a message. A letter stands for a role."""
    names = {"u": "user", "a": "assistant", "s": "system"}
    return [
        {"role": names[role], "content": f"w{number:02}q7f3a"} for number, role in enumerate(roles)
    ]


_VARIABLES = {"add_generation_prompt": True, "tools": None}


def _shows(render: Render, roles: str, support: MessageSupport) -> bool:
    messages = words_of(roles)
    try:
        prompt = render(adapted(messages, support), _VARIABLES)
    except Exception:  # a template may raise anything, and that is the answer
        return False
    return all(message["content"] in prompt for message in messages)


def _obstacle(render: Render, support: MessageSupport) -> str:
    messages = words_of("u")
    try:
        prompt = render(adapted(messages, support), _VARIABLES)
    except Exception as error:  # a template may raise anything
        return f"it fails with a single message of a user: {error}"
    return "" if messages[0]["content"] in prompt else "it does not show what a user says"


_Form = Callable[[MessageSupport], MessageSupport]


def _setting(**fields: Any) -> _Form:
    return lambda support: replace(support, **fields)


def _system_form(place: SystemPlace, is_odd: bool) -> _Form:
    """Where system messages are, with their content in the users' form or in the other."""

    def form(support: MessageSupport) -> MessageSupport:
        in_parts = ("user" in support.parts) != is_odd
        parts = support.parts | {"system"} if in_parts else support.parts - {"system"}
        return replace(support, system=place, parts=parts)

    return form


_PLACES: tuple[SystemPlace, ...] = ("anywhere", "first", "nowhere")
_PARTS = (frozenset[str](), frozenset(("user", "assistant")), frozenset(("user",)))
_STAGES: tuple[tuple[tuple[str, ...], tuple[_Form, ...]], ...] = (
    (("u",), tuple(_setting(parts=parts) for parts in _PARTS[:2])),
    (("u", "uau"), tuple(_setting(parts=parts) for parts in (*_PARTS, frozenset(("assistant",))))),
    (("uu", "uaau"), (_setting(alternates=False), _setting(alternates=True))),
    (("au", "auau"), (_setting(begins_with_user=False), _setting(begins_with_user=True))),
    (
        ("su", "ssu", "suau", "usu", "suasu"),
        tuple(_system_form(*each) for each in product(_PLACES, (False, True))),
    ),
    (("s",), (_setting(system_alone=True), _setting(system_alone=False))),
)
"""Shapes of conversations, and the forms that are tried for them. Later stages build on what
earlier ones have found."""


def _with_system_placed(messages: Sequence[Message], support: MessageSupport) -> list[Message]:
    roles = [message["role"] for message in messages]
    num_first = next((i for i, role in enumerate(roles) if role != "system"), len(roles))
    if num_first == len(roles) and not support.system_alone:
        num_kept = 0
    elif support.system == "anywhere":
        return list(messages)
    else:
        num_kept = num_first if support.system == "first" else 0
    placed = list(messages[:num_kept])
    for message in messages[num_kept:]:
        placed.append({**message, "role": "user"} if message["role"] == "system" else message)
    is_changed = num_kept > 1 or "system" in roles[num_kept:]
    return merged(placed, ("system", "user")) if is_changed else placed


def _begun_by_user(messages: list[Message]) -> list[Message]:
    start = next((i for i, each in enumerate(messages) if each["role"] != "system"), 0)
    if not messages or messages[start]["role"] != "assistant":
        return messages
    return [*messages[:start], {"role": "user", "content": ""}, *messages[start:]]


def _belongs(message: Message, last: Message, roles: Sequence[str]) -> bool:
    is_same = message["role"] == last["role"] and message["role"] in roles
    return is_same and not (message.get("tool_calls") or last.get("tool_calls"))


def _joined(messages: Sequence[Message]) -> Message:
    """One message for several, with their texts as paragraphs."""
    if len(messages) == 1:
        return messages[0]
    joined: dict[str, Any] = {}
    for message in messages:
        joined |= message
    texts = ("content", "reasoning_content", "reasoning", "thinking")
    for key in texts:
        found = [message[key] for message in messages if message.get(key)]
        if found or key == "content":
            joined[key] = "\n\n".join(found)
    if len({message.get("name") for message in messages}) > 1:
        joined.pop("name", None)
    return joined


def _in_parts(message: Message) -> Message:
    content = message["content"]
    if not isinstance(content, str):
        return message
    return {**message, "content": [{"type": "text", "text": content}]}
