"""DeepSeek: V3 and R1 put the arguments in a code fence, V3.1 puts them after the name."""

import re
from functools import partial

import msgspec

from gateway.chat.tools.call_parser import CallParser, CallSyntax
from gateway.chat.tools.dialect import CallForm, Dialect

_CALLS, _CALLS_END = "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"
_CALL, _CALL_END = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_MARKS = (_CALLS, _CALL, _SEPARATOR, _CALL_END, _CALLS_END)

_SYNTAX = CallSyntax(
    openers=(_CALLS,),
    head=re.compile(
        rf"\s*(?:{_CALL})?\s*(?:function{_SEPARATOR})?(?P<name>[\w.-]+)\s*"
        rf"(?:{_SEPARATOR}|```json)\s*(?=\{{)"
    ),
    hope=re.compile(r"[^{}]{0,300}"),
    is_object=False,
    tail=("```", _CALL_END, _CALLS_END),
    again=(_CALL, _CALLS),
)

DEEPSEEK_V3 = Dialect(
    name="deepseek_v3",
    signs=((_CALLS, "```json"),),
    marks=_MARKS,
    form=CallForm(
        trigger=_CALLS,
        opening=_CALLS + _CALL,
        separator=f"\n{_CALL}",
        close=_CALLS_END,
        begin=lambda name: f"function{_SEPARATOR}{name}\n```json\n",
        end=f"\n```{_CALL_END}",
    ),
    new_parser=partial(CallParser, _SYNTAX),
    new_form_parser=partial(CallParser, msgspec.structs.replace(_SYNTAX, bare=None)),
)

DEEPSEEK_V31 = Dialect(
    name="deepseek_v31",
    signs=((_CALLS,),),
    marks=_MARKS,
    form=CallForm(
        trigger=_CALLS,
        opening=_CALLS + _CALL,
        separator=_CALL,
        close=_CALLS_END,
        begin=lambda name: name + _SEPARATOR,
        end=_CALL_END,
    ),
    new_parser=partial(CallParser, _SYNTAX),
    new_form_parser=partial(CallParser, msgspec.structs.replace(_SYNTAX, bare=None)),
)
