"""Mistral: `[TOOL_CALLS]` and a list of objects. Since tokenizer version 11: a name, `[ARGS]` and
the arguments."""

import re
from functools import partial

import msgspec

from gateway.chat.tools.call_parser import CallParser, CallSyntax
from gateway.chat.tools.dialect import CallForm, Dialect

_MARK = "[TOOL_CALLS]"

_LIST_SYNTAX = CallSyntax(openers=(_MARK,), again=(_MARK,))

_ARGS_SYNTAX = CallSyntax(
    openers=(_MARK,),
    head=re.compile(
        r"\s*(?P<name>[\w.-]+)\s*(?:\[CALL_ID\]\s*\w*\s*)?(?:\[ARGS\])?\s*(?=\{)",
    ),
    hope=re.compile(r"[^{}]{0,200}"),
    is_object=False,
    again=(_MARK,),
)

MISTRAL = Dialect(
    name="mistral",
    signs=((_MARK,),),
    marks=(_MARK,),
    form=CallForm(
        trigger=_MARK,
        opening=f"{_MARK} [",
        separator=", ",
        close="]",
        begin=lambda name: f'{{"name": "{name}", "arguments": ',
        end="}",
    ),
    new_parser=partial(CallParser, _LIST_SYNTAX),
    new_form_parser=partial(CallParser, msgspec.structs.replace(_LIST_SYNTAX, bare=None)),
)

MISTRAL_ARGS = Dialect(
    name="mistral_args",
    signs=((_MARK, "[ARGS]"),),
    marks=(_MARK, "[ARGS]", "[CALL_ID]"),
    form=CallForm(
        trigger=_MARK,
        opening=_MARK,
        separator=_MARK,
        close="",
        begin=lambda name: f"{name}[ARGS]",
        end="",
    ),
    new_parser=partial(CallParser, _ARGS_SYNTAX),
    new_form_parser=partial(CallParser, msgspec.structs.replace(_ARGS_SYNTAX, bare=None)),
)
