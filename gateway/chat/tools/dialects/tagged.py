"""Calls whose arguments are text between tags: Qwen3-Coder, Seed-OSS, GLM, MiniMax."""

from functools import partial

import regex

from gateway.chat.tools.dialect import CallForm, Dialect
from gateway.chat.tools.tagged_parser import TaggedParser, TagSyntax
from runtime.messages.structured_output import ArgumentTags


def _function_tags(name: str, block: str, margin: str, signs: tuple[str, ...]) -> Dialect:
    """`<function=…>` and `<parameter=…>` in a block of tags, which models often leave out."""
    opening, closing = f"<{block}>", f"</{block}>"
    syntax = TagSyntax(
        openers=(opening, "<function="),
        head=regex.compile(rf"(?:{opening}\s*)?<function=(?P<name>[^<>\s]{{1,64}})>"),
        key=regex.compile(r"\s*<parameter=(?P<key>[^<>]{1,256})>"),
        value_end="</parameter>",
        end=regex.compile(r"\s*</function>"),
        tail=(closing,),
        margin=margin,
    )
    form = CallForm(
        before=f"{opening}\n",
        trigger="<function=",
        opening="<function=",
        separator=f"\n{closing}\n{opening}\n<function=",
        close=f"\n{closing}",
        begin=lambda name: f"{name}>\n",
        end="</function>",
        arguments=ArgumentTags("<parameter=", ">", "</parameter>", margin, "\n"),
    )
    marks = (opening, closing, "<function=", "</function>", "<parameter=", "</parameter>")
    return Dialect(
        name=name,
        signs=(signs,),
        marks=marks,
        form=form,
        new_parser=partial(TaggedParser, syntax),
    )


QWEN3_CODER = _function_tags(
    "qwen3_coder", "tool_call", "\n", ("<tool_call>", "<function=", "<parameter=")
)
SEED_OSS = _function_tags("seed_oss", "seed:tool_call", "", ("<seed:tool_call>", "<function="))

_CALL, _CALL_END = "<tool_call>", "</tool_call>"
_VALUE, _VALUE_END = "</arg_key>\n<arg_value>", "</arg_value>"

GLM45 = Dialect(
    name="glm45",
    signs=(("<tool_call>", "<arg_key>", "<arg_value>"),),
    marks=(_CALL, _CALL_END, "<arg_key>", "</arg_key>", "<arg_value>", _VALUE_END),
    form=CallForm(
        trigger=_CALL,
        opening=_CALL,
        separator=f"\n{_CALL}",
        close="",
        begin=lambda name: f"{name}\n",
        end=_CALL_END,
        arguments=ArgumentTags("<arg_key>", _VALUE, _VALUE_END, "", "\n"),
    ),
    new_parser=partial(
        TaggedParser,
        TagSyntax(
            openers=(_CALL,),
            head=regex.compile(rf"{_CALL}\s*(?P<name>[\w.-]{{1,64}})\s*(?=<)"),
            key=regex.compile(r"\s*<arg_key>\s*(?P<key>[^<>]{1,256}?)\s*</arg_key>\s*<arg_value>"),
            value_end=_VALUE_END,
            end=regex.compile(rf"\s*{_CALL_END}"),
        ),
    ),
)

_BLOCK, _BLOCK_END = "<minimax:tool_call>", "</minimax:tool_call>"
_INVOKE, _INVOKE_END = '<invoke name="', "</invoke>"

MINIMAX_M2 = Dialect(
    name="minimax_m2",
    signs=((_BLOCK, "<invoke name="), ("<invoke name=", "<parameter name=")),
    marks=(_BLOCK, _BLOCK_END, _INVOKE, _INVOKE_END, "<parameter name=", "</parameter>"),
    form=CallForm(
        before=f"{_BLOCK}\n",
        trigger=_INVOKE,
        opening=_INVOKE,
        separator=f"\n{_INVOKE}",
        close=f"\n{_BLOCK_END}",
        begin=lambda name: f'{name}">\n',
        end=_INVOKE_END,
        arguments=ArgumentTags('<parameter name="', '">', "</parameter>", "", "\n"),
    ),
    new_parser=partial(
        TaggedParser,
        TagSyntax(
            openers=(_BLOCK, _INVOKE, "<function_calls>"),
            head=regex.compile(
                rf"(?:(?:{_BLOCK}|<function_calls>)\s*)?{_INVOKE}(?P<name>[^\"<>]{{1,64}})\">"
            ),
            key=regex.compile(r'\s*<parameter name="(?P<key>[^"<>]{1,256})"[^<>]{0,64}>'),
            value_end="</parameter>",
            end=regex.compile(rf"\s*{_INVOKE_END}"),
            tail=(_BLOCK_END, "</function_calls>"),
        ),
    ),
)
