"""Llama 3.1 and later: the whole answer is an object, with or without `<|python_tag|>` before
it."""

from functools import partial

from gateway.chat.tools.call_parser import CallParser, CallSyntax
from gateway.chat.tools.dialect import CallForm, Dialect
from runtime.messages.structured_output import BareCalls

_SYNTAX = CallSyntax(
    openers=("<|python_tag|>",),
    bare=('{"name":', '{"type":"function"'),
    tail=(),
    again=(";", "<|python_tag|>"),
)

LLAMA3 = Dialect(
    name="llama3",
    signs=(("<|python_tag|>",), ('"parameters": dictionary of argument name and its value',)),
    marks=("<|python_tag|>",),
    form=CallForm(
        trigger='{"name": "',
        opening='{"name": "',
        separator='; {"name": "',
        close="",
        begin=lambda name: f'{name}", "parameters": ',
        end="}",
        at_start=True,
        bare=BareCalls(between="; "),
    ),
    new_parser=partial(CallParser, _SYNTAX),
)
