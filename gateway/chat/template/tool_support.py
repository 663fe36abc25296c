"""What chat templates do with calls and results, and the shapes of conversations that they
refuse or drop."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

Message = dict[str, Any]

ToolShape = Literal[
    "parallel", "beside_text", "beside_thought", "before_user", "repeated", "orphan", "unanswered"
]
"""Shapes of histories: several calls in one message; a call beside a text; a call beside a text and
reasoning; a result and then a user's message; several calls one after the other; a result without a
call; a call without a result."""


class ToolSupport(Struct, frozen=True):
    """`shows_tools`: the prompt shows the available tools. `shows_messages`: the prompt shows
    earlier calls and their results; many templates drop them silently. `text_arguments`: the
    arguments of a call must be a JSON string, not an object. `short_ids`: ids of calls must be nine
    letters and digits. `object_arguments`: the arguments of a call must be an object, whatever the
    model wrote. `null_content`: a message with calls must have no content, not even "".
    `result_parts`: the content of a result must be a list of parts. `parted_by_user`: a text and a
    call of the assistant must not follow each other, so that an empty message of the user stands
    between them. The template shows histories of the shapes `reshaped` in another form, and those
    of the shapes `unshown` in none.
    """

    shows_tools: bool = False
    shows_messages: bool = False
    text_arguments: bool = False
    short_ids: bool = False
    object_arguments: bool = False
    null_content: bool = False
    result_parts: bool = False
    parted_by_user: bool = False
    reshaped: frozenset[ToolShape] = frozenset()
    unshown: frozenset[ToolShape] = frozenset()


def shapes_of(messages: Sequence[Mapping[str, Any]]) -> set[ToolShape]:
    """The shapes that occur in a history."""
    shapes: set[ToolShape] = set()
    num_calling = 0
    is_answering = False  # a result may follow
    last: Mapping[str, Any] = {}
    for message in messages:
        calls, role = message.get("tool_calls"), message["role"]
        if role == "tool" and not is_answering:
            shapes.add("orphan")
        if last.get("tool_calls") and role != "tool":
            shapes.add("unanswered")
        if last.get("role") == "tool" and role in ("user", "system"):
            shapes.add("before_user")
        if calls:
            num_calling += 1
            shapes |= _shapes_of_calls(message, calls)
        is_answering = bool(calls) or (is_answering and role == "tool")
        last = message
    return shapes | ({"repeated"} if num_calling > 1 else set())


def _shapes_of_calls(message: Mapping[str, Any], calls: Sequence[Any]) -> set[ToolShape]:
    shapes: set[ToolShape] = {"parallel"} if len(calls) > 1 else set()
    if message.get("content"):
        shapes.add("beside_thought" if message.get("reasoning_content") else "beside_text")
    return shapes


def reshape(messages: list[Message], support: ToolSupport) -> list[Message]:
    """The same history without the shapes that the template shows in another form only."""
    shapes = shapes_of(messages) & support.reshaped
    if shapes & {"beside_text", "beside_thought"}:
        messages = _with_text_apart(messages, is_parted=support.parted_by_user)
    if "parallel" in shapes:
        messages = _with_one_call_each(messages)
    if shapes & {"before_user", "unanswered"}:
        messages = _bridged(messages)
    return messages


def _with_one_call_each(messages: list[Message]) -> list[Message]:
    """Each call in a message of its own, and its results behind it."""
    changed: list[Message] = []
    for message, results in _with_results(messages):
        calls = message.get("tool_calls") or ()
        if len(calls) < 2:
            changed += [message, *results]
            continue
        own = {
            call["id"]: [r for r in results if r.get("tool_call_id") == call["id"]]
            for call in calls
        }
        for index, call in enumerate(calls):
            head = message if index == 0 else {"role": message["role"], "content": ""}
            changed += [{**head, "tool_calls": [call]}, *own.pop(call["id"], ())]
        known = {call["id"] for call in calls}
        changed += [result for result in results if result.get("tool_call_id") not in known]
    return changed


def _with_results(messages: list[Message]) -> list[tuple[Message, list[Message]]]:
    """Each message with the results that follow it."""
    grouped: list[tuple[Message, list[Message]]] = []
    for message in messages:
        if message["role"] == "tool" and grouped and grouped[-1][0].get("tool_calls"):
            grouped[-1][1].append(message)
        else:
            grouped.append((message, []))
    return grouped


def _with_text_apart(messages: list[Message], *, is_parted: bool) -> list[Message]:
    """The text beside calls as a message in front of them."""
    changed: list[Message] = []
    for message in messages:
        if message.get("tool_calls") and message["content"]:
            changed.append({"role": message["role"], "content": message["content"]})
            if is_parted:
                changed.append({"role": "user", "content": ""})
            message = {**message, "content": ""}
        changed.append(message)
    return changed


def _bridged(messages: list[Message]) -> list[Message]:
    """An empty answer between calls or their results and the next message of a user."""
    changed: list[Message] = []
    for message in messages:
        is_open = bool(changed) and (changed[-1]["role"] == "tool" or changed[-1].get("tool_calls"))
        if is_open and message["role"] in ("user", "system"):
            changed.append({"role": "assistant", "content": ""})
        changed.append(message)
    return changed
