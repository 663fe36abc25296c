"""For models that were taught no way of their own: the whole answer is an object, or a list."""

from functools import partial

from gateway.parsing.call_parser import CallParser, CallSyntax
from gateway.parsing.dialect import CallForm, Dialect

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
    ),
    new_parser=partial(CallParser, _SYNTAX),
)
