"""Hermes 2 Pro, and Qwen 2.5 and 3 after it: an object in `<tool_call>`."""

from functools import partial

from gateway.parsing.call_parser import CallParser, CallSyntax
from gateway.parsing.dialect import CallForm, Dialect

_SYNTAX = CallSyntax(
    openers=("<tool_call>",),
    tail=("```", "</tool_call>"),
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
)
