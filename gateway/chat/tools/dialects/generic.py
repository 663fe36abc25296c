"""For models that were taught no dialect: the whole answer is an object, or a list."""

from functools import partial

import msgspec
import regex

from gateway.chat.tools.call_parser import CallParser, CallSyntax
from gateway.chat.tools.dialect import CallForm, Dialect

_SYNTAX = CallSyntax(openers=(), again=())
_FORM_SYNTAX = msgspec.structs.replace(_SYNTAX, bare=regex.compile(r'\[\{"name": "'))

GENERIC = Dialect(
    name="json",
    signs=(),
    marks=(),
    form=CallForm(
        trigger='[{"name": "',
        opening='[{"name": "',
        separator=', {"name": "',
        close="]",
        begin=lambda name: f'{name}", "arguments": ',
        end="}",
        at_start=True,
    ),
    new_parser=partial(CallParser, _SYNTAX),
    new_form_parser=partial(CallParser, _FORM_SYNTAX),
)
