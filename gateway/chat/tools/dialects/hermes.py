"""Hermes 2 Pro, and later Qwen 2.5 and 3: an object in `<tool_call>`. Small models often omit the
tags."""

from functools import partial

import msgspec

from gateway.chat.tools.call_parser import CallParser, CallSyntax
from gateway.chat.tools.dialect import CallForm, Dialect

_SYNTAX = CallSyntax(
    openers=("<tool_call>",),
    tail=("</tool_call>",),
    again=("<tool_call>",),
)

HERMES = Dialect(
    name="hermes",
    signs=(("<tool_call>", '"arguments"'),),
    marks=("<tool_call>", "</tool_call>"),
    form=CallForm(
        trigger="<tool_call>",
        opening="<tool_call>\n",
        separator="\n</tool_call>\n<tool_call>\n",
        close="\n</tool_call>",
        begin=lambda name: f'{{"name": "{name}", "arguments": ',
        end="}",
    ),
    new_parser=partial(CallParser, _SYNTAX),
    new_form_parser=partial(CallParser, msgspec.structs.replace(_SYNTAX, bare=None)),
)
