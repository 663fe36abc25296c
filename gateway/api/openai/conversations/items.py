"""Items of a request in the form in which a conversation has them. Pure."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from gateway.api.openai.responses.answers import (
    ItemStatus,
    OutputCompaction,
    OutputFunctionCall,
    OutputItem,
    OutputTextPart,
    ReasoningTextPart,
)
from gateway.api.openai.responses.protocol import (
    InputCompaction,
    InputContent,
    InputFunctionCall,
    InputFunctionOutput,
    InputItem,
    InputMessage,
    InputPart,
    InputReasoning,
    InputText,
    OutputText,
    Refusal,
    ThoughtText,
    items_of,
)
from gateway.api.openai.responses.turns import turns_of
from gateway.generation.writer import encode
from gateway.http.decoding import MISTAKES, to_invalid_request
from runtime.errors import InvalidRequest

PREFIXES: Mapping[type[Struct], str] = {
    InputMessage: "msg_",
    InputFunctionCall: "fc_",
    InputFunctionOutput: "fco_",
    InputReasoning: "rs_",
    InputCompaction: "cmp_",
}
"""How the ids of items begin that come without one."""


class NewItem(Struct, frozen=True, gc=False):
    """An item that a conversation does not have yet. `body` is its JSON, with the id in it."""

    id: str
    body: bytes


class _Marks(Struct, frozen=True):
    """What an item says of itself that no prompt depends on."""

    id: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,100}$")] | None = None
    status: ItemStatus | None = None
    phase: Literal["commentary", "final_answer"] | None = None
    encrypted_content: str | None = None


MessagePart = InputText | OutputTextPart | Refusal


class StoredMessage(Struct, frozen=True, tag_field="type", tag="message", kw_only=True):
    id: str
    status: ItemStatus
    role: str
    content: list[MessagePart]
    phase: str | UnsetType = UNSET


class StoredFunctionOutput(
    Struct, frozen=True, tag_field="type", tag="function_call_output", kw_only=True
):
    """`call_id` is absent if the client left it to the order of the items."""

    id: str
    call_id: str | UnsetType = UNSET
    output: str | list[InputText]
    status: ItemStatus


class SummaryTextPart(Struct, frozen=True, tag_field="type", tag="summary_text"):
    text: str


class StoredReasoning(Struct, frozen=True, tag_field="type", tag="reasoning", kw_only=True):
    id: str
    status: ItemStatus
    summary: list[SummaryTextPart]
    content: list[ReasoningTextPart] | UnsetType = UNSET
    encrypted_content: str | UnsetType = UNSET


def new_items(raws: Sequence[Raw], param: str) -> list[NewItem]:
    """The items that a parameter has as JSON. Raises InvalidRequest, which names the place of the
    mistake, for what no response could have as its input, and for an id that comes twice."""
    items = items_of(raws, param)
    turns_of(None, items, (), before=param)
    found: dict[str, NewItem] = {}
    for index, (raw, item) in enumerate(zip(raws, items, strict=True)):
        new = item_of(raw, item, f"{param}[{index}]", secrets.token_hex(16))
        if new.id in found:
            raise known_id(new.id, f"{param}[{index}]")
        found[new.id] = new
    return list(found.values())


def output_items(output: Sequence[OutputItem]) -> list[NewItem]:
    """The items of an answer."""
    return [NewItem(item.id, encode(item)) for item in output]


def renamed(item: NewItem) -> NewItem:
    """The same item with a new id."""
    prefix = item.id.partition("_")[0]
    fresh = f"{prefix[:20]}_{secrets.token_hex(16)}"
    fields = msgspec.json.decode(item.body, type=dict[str, Raw])
    return NewItem(fresh, encode({**fields, "id": fresh}))


def known_id(item_id: str, where: str) -> InvalidRequest:
    """The error for an item whose id another one has."""
    return InvalidRequest(
        f"`{where}.id` is `{item_id}`, which the conversation has already. Leave the item out, or"
        " its id.",
        param=f"{where}.id",
        code="invalid_value",
    )


def item_of(raw: Raw, item: InputItem, where: str, fresh: str) -> NewItem:
    """An item, and its JSON, in the form in which it is stored. Its id ends with `fresh` if it
    comes without one. Raises InvalidRequest, which names the place of the mistake."""
    try:
        marks = msgspec.json.decode(raw, type=_Marks)
    except MISTAKES as error:
        raise to_invalid_request(error, _Marks, where, bytes(raw)) from error
    item_id = marks.id or f"{PREFIXES[type(item)]}{fresh}"
    return NewItem(item_id, encode(_stored(item, item_id, marks)))


def _stored(item: InputItem, item_id: str, marks: _Marks) -> Struct:
    status = marks.status or "completed"
    match item:
        case InputMessage(role=role, content=content):
            return StoredMessage(
                id=item_id,
                status=status,
                role=role,
                content=_message_parts(role, content),
                phase=marks.phase or UNSET,
            )
        case InputFunctionCall(name=name, call_id=call_id, arguments=arguments):
            return OutputFunctionCall(
                id=item_id,
                call_id=call_id or f"call_{item_id}",
                name=name,
                arguments=arguments or "{}",
                status=status,
            )
        case InputFunctionOutput(call_id=call_id, output=output):
            return StoredFunctionOutput(
                id=item_id, call_id=call_id or UNSET, output=_output(output), status=status
            )
        case InputReasoning(content=thoughts, summary=summary):
            return StoredReasoning(
                id=item_id,
                status=status,
                summary=[SummaryTextPart(each.text) for each in summary or ()],
                content=_thoughts(thoughts),
                encrypted_content=marks.encrypted_content or UNSET,
            )
        case InputCompaction(encrypted_content=content):
            return OutputCompaction(id=item_id, encrypted_content=content)


def _message_parts(role: str, content: InputContent) -> list[MessagePart]:
    parts = [content] if isinstance(content, str) else content
    if role == "assistant":
        return [part if isinstance(part, Refusal) else _said(part) for part in parts]
    return [InputText(_text(part)) for part in parts]


def _said(part: str | InputPart) -> OutputTextPart:
    return OutputTextPart(text=_text(part))


def _output(output: InputContent | None) -> str | list[InputText]:
    if output is None or isinstance(output, str):
        return output or ""
    return [InputText(_text(part)) for part in output]


def _text(part: str | InputPart) -> str:
    match part:
        case str():
            return part
        case InputText(text) | OutputText(text) | Refusal(text):
            return text
    raise AssertionError("turns_of has refused parts that are no text")


def _thoughts(thoughts: Sequence[ThoughtText] | None) -> list[ReasoningTextPart] | UnsetType:
    return [ReasoningTextPart(each.text) for each in thoughts] if thoughts else UNSET
