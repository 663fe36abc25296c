"""Phi-4-mini: a list of objects in `<|tool_call|>`."""

from functools import partial

import msgspec

from gateway.chat.tools.call_parser import CallParser, CallSyntax
from gateway.chat.tools.dialect import CallForm, Dialect

_BEGIN, _END = "<|tool_call|>", "<|/tool_call|>"

_SYNTAX = CallSyntax(openers=(_BEGIN, "functools["), tail=(_END,), again=(_BEGIN, "functools["))

PHI = Dialect(
    name="phi",
    signs=((_BEGIN, _END), ("<|tool|>", "<|/tool|>")),
    marks=(_BEGIN, _END),
    form=CallForm(
        trigger=_BEGIN,
        opening=f"{_BEGIN}[",
        separator=", ",
        close=f"]{_END}",
        begin=lambda name: f'{{"name": "{name}", "arguments": ',
        end="}",
    ),
    new_parser=partial(CallParser, _SYNTAX),
    new_form_parser=partial(CallParser, msgspec.structs.replace(_SYNTAX, bare=None)),
)
