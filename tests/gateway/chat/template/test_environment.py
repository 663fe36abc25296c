"""Templates render as in transformers, for which they are written."""

from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from gateway.chat.template.environment import compile_template
from runtime.errors import ModelFileError
from tests.kit.chat.templates import TEMPLATES

MESSAGES = [
    {"role": "user", "content": "uno <é> \"q\" 'a' & 日本\n"},
    {"role": "assistant", "content": " dos "},
    {"role": "user", "content": "tres"},
]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"b": [1, 2.5], "a": None}}}]
DETAILS = {
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    "{% endfor %}",
    "what is set in a generation": "{% set x = 1 %}{% generation %}{% set x = 2 %}{{ x }}"
    "{% endgeneration %}{{ x }}",
    "a macro in a generation": "{% macro f(x) %}<{{ x }}>{% endmacro %}"
    "{% for m in messages %}{% generation %}{{ f(m.role) }}{% endgeneration %}{% endfor %}",
    "blanks around blocks": "{% for m in messages %}\n    {% if true %}\n  {{ m.role }}\n"
    "    {% endif %}\n{% endfor %}\n",
    "break and continue": "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}"
    "{{ m.content }}{% break %}{% endfor %}",
    "json": "{{ tools | tojson }}{{ messages | tojson(indent=2) }}"
    "{{ tools | tojson(sort_keys=true) }}{{ tools | tojson(separators=(',', ':')) }}"
    "{{ messages[0].content | tojson(ensure_ascii=true) }}",
    "a namespace": "{% set ns = namespace(n=0, all=[]) %}"
    "{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "dict": "{{ dict(a=1) | tojson }}{{ dict(messages[0]).role }}",
    "undefined": "{{ nothing }}{{ messages[0].nothing }}{{ nothing is defined }}{{ documents }}",
    "strings": "{{ messages[1].content.strip() }}{{ messages[1].content | trim | upper }}"
    "{{ messages[0].content.split(' ')[0] }}{{ messages[0] | items | list }}",
    "what is not allowed": "{{ messages.append(1) }}",
    "what is hidden": "{{ ''.__class__.__mro__ }}",
    "its own refusal": "{{ raise_exception('because') }}",
    "a year": "{{ strftime_now('%Y') }}",
}


def theirs(source: str) -> str:
    prompts, _ = render_jinja_template(
        conversations=[MESSAGES],
        chat_template=source,
        tools=TOOLS,
        add_generation_prompt=True,
        eos_token="</s>",
    )
    return str(prompts[0])


def ours(source: str) -> str:
    variables: dict[str, Any] = {"documents": None, "tools": TOOLS, "add_generation_prompt": True}
    return compile_template(source)({"messages": MESSAGES, "eos_token": "</s>", **variables})


@pytest.mark.parametrize(
    "source", [*DETAILS.values(), *TEMPLATES.values()], ids=[*DETAILS, *TEMPLATES]
)
def test_as_in_transformers(source: str) -> None:
    """The same prompt, or a refusal on both sides."""
    try:
        expected = theirs(source)
    except Exception as error:
        with pytest.raises(type(error)):
            ours(source)
    else:
        assert ours(source) == expected


def test_a_template_changes_nothing() -> None:
    """Requests share what they pass to templates."""
    for change in (
        "messages[0].update({})",
        "messages.pop()",
        "tools[0].clear()",
        "messages.sort()",
    ):
        with pytest.raises(Exception, match="unsafe"):
            ours(f"{{{{ {change} }}}}")


@pytest.mark.parametrize(
    "source", ["{{", "{% if %}", "{{ .Go }}", "{% unknown %}", "{{ a | nothing }}"]
)
def test_no_template(source: str) -> None:
    with pytest.raises(ModelFileError, match="not a Jinja template: line 1: "):
        compile_template(source)
