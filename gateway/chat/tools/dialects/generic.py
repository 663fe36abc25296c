"""For models that were taught no dialect: the whole answer is an object, or a list."""

from functools import partial

import msgspec

from gateway.chat.tools.call_parser import CallParser, CallSyntax
from gateway.chat.tools.dialect import CallForm, Dialect
from runtime.messages.structured_output import BareCalls

_SYNTAX = CallSyntax(
    openers=(),
    bare=('{"name":', '[{"name":', '```json{"name":', '```json[{"name":', '```{"name":'),
    tail=("]", "```"),
    again=(",",),
)

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
        bare=BareCalls(before=r"(```(json)? )?(\[ )?", between="(, )?", after=r"(```|\]( ```)?)"),
    ),
    new_parser=partial(CallParser, _SYNTAX),
    new_form_parser=partial(CallParser, msgspec.structs.replace(_SYNTAX, bare=('[{"name":',))),
)
