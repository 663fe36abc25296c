"""Finds out what a chat template does with tools, by rendering with it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any, get_args

from msgspec.structs import replace

from gateway.chat.template.message_support import MessageSupport, Render, adapted, probe_messages
from gateway.chat.template.messages import with_calls
from gateway.chat.template.tool_support import Message, ToolShape, ToolSupport

_FUNCTION, _KEY, _RESULT, _TEXT = "lookup7f3a", "key7f3a", "result7f3a", "text7f3a"
_WRITTEN_KEYS = (f'"{_KEY}"', f"{_KEY}:", f"={_KEY}>", f">{_KEY}<")
"""A key of an argument as prompts show it: in JSON, without quotes, or between tags."""

_USER: Message = {"role": "user", "content": "question7f3a"}

_VARIABLES = {
    "tools": [
        {
            "type": "function",
            "function": {
                "name": _FUNCTION,
                "description": "",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ],
    "add_generation_prompt": True,
}

_Show = Callable[[Sequence[Message], ToolSupport], str]


def probe_tools(render: Render, messages: MessageSupport) -> ToolSupport:
    """Tries small conversations with calls in all forms that templates expect."""
    show = partial(_rendered, render, messages)
    support = replace(_probe_forms(show), shows_tools=_FUNCTION in show([_USER], ToolSupport()))
    if not support.shows_messages:
        return support
    if not support.text_arguments:
        broken = _call("broken", f'{{"{_KEY}": ')
        is_shown = _KEY in show([_USER, broken, _result("broken")], support)
        support = replace(support, object_arguments=not is_shown)
    return _probe_shapes(show, support)


def probe_messages_with_tools(render: Render) -> MessageSupport:
    """The support of a template that is for conversations with tools alone."""
    return probe_messages(lambda messages, variables: render(messages, {**variables, **_VARIABLES}))


def _probe_forms(show: _Show) -> ToolSupport:
    """The first form in which the keys of arguments are shown as such, or else the first in which
    calls are shown."""
    conversation = [_USER, _call("a", {_KEY: f"{_TEXT}a"}), _result("a")]
    loosely: ToolSupport | None = None
    for form in _forms():
        prompt = show(conversation, form)
        if not all(word in prompt for word in (_KEY, *_words("a"))):
            continue
        if any(written in prompt for written in _WRITTEN_KEYS):
            return form
        loosely = loosely or form
    return loosely or ToolSupport()


def _forms() -> Iterator[ToolSupport]:
    for parts, null, short, text in product((False, True), repeat=4):
        yield ToolSupport(
            shows_messages=True,
            text_arguments=text,
            short_ids=short,
            null_content=null,
            result_parts=parts,
        )


def _probe_shapes(show: _Show, support: ToolSupport) -> ToolSupport:
    """Each shape as it is, else in another form, else in none."""
    for shape in get_args(ToolShape):
        conversation, words = _EXAMPLES[shape]
        reshaped = replace(support, reshaped=support.reshaped | {shape})
        forms = (
            support,
            reshaped,
            replace(reshaped, parted_by_user=True),
            replace(support, unshown=support.unshown | {shape}),
        )
        shown = (form for form in forms if _all_in(words, show(conversation, form)))
        support = next(shown, forms[-1])
    return support


def _all_in(words: Sequence[str], prompt: str) -> bool:
    return all(word in prompt for word in words)


def _rendered(
    render: Render, support: MessageSupport, messages: Sequence[Message], tools: ToolSupport
) -> str:
    """The prompt, or "" if the template refuses."""
    try:
        return render(adapted(with_calls(messages, tools), support), _VARIABLES)
    except Exception:  # a template may raise anything, and that is the answer
        return ""


def _id(name: str) -> str:
    return f"call_0123456789abcdef0123456{name}"


def _call(name: str, arguments: Any, **fields: Any) -> Message:
    function = {"name": _FUNCTION, "arguments": arguments}
    call = {"id": _id(name), "type": "function", "function": function}
    return {"role": "assistant", "content": "", "tool_calls": [call], **fields}


def _result(name: str) -> Message:
    content = f"{_RESULT}{name}"
    return {"role": "tool", "content": content, "tool_call_id": _id(name), "name": _FUNCTION}


def _words(*names: str) -> list[str]:
    return [word for name in names for word in (f"{_TEXT}{name}", f"{_RESULT}{name}")]


def _pair(name: str, **fields: Any) -> list[Message]:
    return [_call(name, {_KEY: f"{_TEXT}{name}"}, **fields), _result(name)]


def _examples() -> Mapping[ToolShape, tuple[list[Message], list[str]]]:
    """A conversation of each shape, and the words that its prompt has to have."""
    (a, result_a), (b, result_b) = _pair("a"), _pair("b")
    both = {**a, "tool_calls": [*a["tool_calls"], *b["tool_calls"]]}
    answer: Message = {"role": "assistant", "content": "answer7f3a"}
    later: Message = {"role": "user", "content": "later7f3a"}
    after, end = [answer, later], ["answer7f3a", "later7f3a"]
    beside = _pair("a", content="beside7f3a")
    thought = _pair("a", content="beside7f3a", reasoning_content="r", thinking="r", reasoning="r")
    return {
        "parallel": ([_USER, both, result_a, result_b, *after], [*_words("a", "b"), *end]),
        "beside_text": ([_USER, *beside, *after], ["beside7f3a", *_words("a"), *end]),
        "beside_thought": ([_USER, *thought, *after], ["beside7f3a", *_words("a"), *end]),
        "before_user": ([_USER, a, result_a, later], ["later7f3a", *_words("a")]),
        "repeated": ([_USER, a, result_a, b, result_b, *after], [*_words("a", "b"), *end]),
        "orphan": ([_USER, result_a, *after], [f"{_RESULT}a", *end]),
        "unanswered": ([_USER, a, later], [f"{_TEXT}a", "later7f3a"]),
    }


_EXAMPLES = _examples()
