"""Llama 3.1 and later: the whole answer is an object, with or without `<|python_tag|>` before
it."""

from functools import partial

import msgspec
import regex

from gateway.chat.tools.call_parser import CallParser, CallSyntax
from gateway.chat.tools.dialect import CallForm, Dialect

_SYNTAX = CallSyntax(
    openers=("<|python_tag|>",),
    again=("<|python_tag|>",),
)
_FORM_SYNTAX = msgspec.structs.replace(_SYNTAX, bare=regex.compile(r'\{"name": "'))

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
    ),
    new_parser=partial(CallParser, _SYNTAX),
    new_form_parser=partial(CallParser, _FORM_SYNTAX),
)
