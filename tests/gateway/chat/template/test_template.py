"""Chat templates: rendering, refusals, and what a template leaves out."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chat.conversation import Turn, TurnCall
from gateway.chat.template.messages import template_messages
from gateway.chat.template.template import RESERVED, ChatTemplate
from gateway.chat.template.tool_support import ToolSupport
from runtime.errors import InvalidRequest
from runtime.tokenizers.load import load_tokenizer
from tests.kit.chat.templates import TEMPLATES

PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def template(source: str, bos_token: str = "<s>") -> ChatTemplate:
    return ChatTemplate(source, bos_token=bos_token, eos_token="</s>")


def test_render():
    messages = [{"role": "user", "content": "hi"}]
    source = PLAIN + "{{ bos_token }}{{ eos_token }}{% if add_generation_prompt %}bot:{% endif %}"

    assert template(source).render(messages) == "user: hi\n<s></s>bot:"
    assert messages == [{"role": "user", "content": "hi"}]


def test_built_in_template():
    tokenizer = load_tokenizer("")
    assert tokenizer.chat_template
    chatml = ChatTemplate(
        tokenizer.chat_template, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token
    )

    assert chatml.render([{"role": "user", "content": "hi"}]) == (
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_variables_reach_the_template():
    source = PLAIN + "{% if mood %}{{ mood }}{% endif %}"
    messages = [{"role": "user", "content": "hi"}]

    assert template(source).render(messages, variables={"mood": "calm"}) == "user: hi\ncalm"
    assert template(source).render(messages) == "user: hi\n"
    for name in ("tools", "messages", "bos_token", "add_generation_prompt", "chat_template"):
        with pytest.raises(InvalidRequest, match=name) as caught:
            template(source).render(messages, variables={name: "x"})
        assert caught.value.param == "chat_template_kwargs"


def test_the_last_message_can_be_gone_on_with():
    source = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "so"}]
    compiled = template(source)

    assert compiled.render(messages[:1]) == "<user>q</><assistant>"
    assert compiled.render(messages[:1], add_generation_prompt=False) == "<user>q</>"
    assert (
        compiled.render(messages, add_generation_prompt=False, continue_final_message=True)
        == "<user>q</><assistant>so"
    )


def test_what_a_template_refuses_is_the_messages_fault():
    """Whether it says so itself or stumbles."""
    for source, reason in (
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[7].content }}", "no element 7"),
        ("{{ 1 / 0 }}", "division by zero"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            template(source).render([{"role": "user", "content": "hi"}])
        assert caught.value.param == "messages"
        assert reason in str(caught.value)


def test_first_token_is_not_written_twice():
    writes = template("{{ bos_token }}" + PLAIN)
    assert writes.writes_bos(writes.render([{"role": "user", "content": "hi"}]))
    does_not = template(PLAIN)
    assert not does_not.writes_bos(does_not.render([{"role": "user", "content": "hi"}]))
    assert not template(PLAIN, bos_token="").writes_bos("anything")


CALLS = "{% for c in m.tool_calls or [] %}ARGUMENTS{% endfor %}"
WITH_CALLS = "{% for m in messages %}{{ m.content }}" + CALLS + "{% endfor %}"


@pytest.mark.parametrize(
    ("source", "support"),
    [
        (PLAIN, ToolSupport()),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", ToolSupport()),
        (
            "{% if messages[-1].role == 'tool' %}{{ raise_exception('no') }}{% endif %}",
            ToolSupport(),
        ),
        ("{{ tools | tojson }}" + PLAIN, ToolSupport(shows_tools=True)),
        (
            WITH_CALLS.replace("ARGUMENTS", "{{ c.function.arguments | tojson }}"),
            ToolSupport(shows_messages=True),
        ),
        (
            WITH_CALLS.replace("ARGUMENTS", "{{ '(' + c.function.arguments + ')' }}"),
            ToolSupport(shows_messages=True, text_arguments=True),
        ),
        (
            WITH_CALLS.replace(
                "ARGUMENTS",
                "{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
                "{{ c.function.arguments | tojson }}",
            ),
            ToolSupport(shows_messages=True, short_ids=True),
        ),
    ],
)
def test_what_a_template_does_with_tools_is_known(source: str, support: ToolSupport) -> None:
    assert template(source).tools == support


VALUE = "{{ v if v is string else v | tojson }}"
EACH = "{% for k, v in c.function.arguments | items %}"
TAGGED = [
    (
        "<function={{ c.function.name }}>\n"
        f"{EACH}<parameter={{{{ k }}}}>\n{VALUE}\n</parameter>\n{{% endfor %}}",
        "<function=f>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n",
    ),
    (
        "{{ c.function.name }}\n"
        f"{EACH}<arg_key>{{{{ k }}}}</arg_key><arg_value>{VALUE}</arg_value>\n{{% endfor %}}",
        "f\n<arg_key>city</arg_key><arg_value>Oslo</arg_value>\n"
        "<arg_key>days</arg_key><arg_value>3</arg_value>\n",
    ),
    (
        '<invoke name="{{ c.function.name }}">'
        f'{EACH}<parameter name="{{{{ k }}}}">{VALUE}</parameter>{{% endfor %}}',
        '<invoke name="f"><parameter name="city">Oslo</parameter>'
        '<parameter name="days">3</parameter>',
    ),
]


@pytest.mark.parametrize("text_too", [False, True])
@pytest.mark.parametrize(("source", "written"), TAGGED)
def test_a_history_is_shown_in_the_tags_of_the_template(
    source: str, written: str, text_too: bool
) -> None:
    """Also where the template would write arguments that are a text as they are."""
    as_text = "{% if c.function.arguments is string %}{{ c.function.arguments }}{% else %}"
    source = f"{as_text}{source}{{% endif %}}" if text_too else source
    compiled = template(WITH_CALLS.replace("ARGUMENTS", source))
    assert compiled.tools.shows_messages
    assert not compiled.tools.text_arguments
    call = TurnCall("call_1", "f", {"city": "Oslo", "days": 3})
    turns = [Turn("assistant", "", calls=(call,)), Turn("tool", "sunny", call_id="call_1")]
    prompt = compiled.render(template_messages(turns, compiled.tools))
    assert prompt == f"{written}sunny"


def test_user_text_is_not_a_template():
    content = "{{ 7 * 7 }} {% raw %}"

    assert content in template(PLAIN).render([{"role": "user", "content": content}])


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        (PLAIN, set()),
        (PLAIN + "{% if mood %}{{ mood }}{% endif %}{{ other | default(1) }}", {"mood", "other"}),
        (PLAIN + "{% set mood = mood | default(1) %}{{ mood }}", {"mood"}),
        (PLAIN + "{% set mood = 1 %}{{ mood }}{{ namespace(a=b).a }}", {"b"}),
        (PLAIN + "{% macro f(a) %}{{ a }}{{ c }}{% endmacro %}{{ f(1) }}", {"c"}),
        (PLAIN + "{% generation %}{{ d }}{% endgeneration %}", {"d"}),
        (PLAIN + "{{ messages[0].e }}{% if tools is defined %}f{% endif %}", {"tools"}),
    ],
)
def test_the_variables_that_a_template_reads(source: str, reads: set[str]):
    assert template(source).reads == {"messages", *reads}


@pytest.mark.parametrize("source", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_a_variable_that_is_not_read_changes_nothing(source: str):
    chat = template(source)
    reserved = RESERVED | {"bos_token", "eos_token"}

    @settings(deadline=None, max_examples=20)
    @given(st.dictionaries(st.text(min_size=1, max_size=9), st.integers() | st.none(), max_size=4))
    def check(variables: dict[str, Any]) -> None:
        unread = {
            name: each for name, each in variables.items() if name not in chat.reads | reserved
        }
        assert chat.probe(**unread) == chat.probe()

    check()
    assert "messages" in chat.reads


@pytest.mark.parametrize(
    ("source", "roles"),
    [
        (PLAIN, set()),
        (PLAIN.replace("m.content", "m.content ~ m.name"), {"user", "assistant", "system"}),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.name }}{% endif %}"
            "{{ m.role }}{{ m.content }}{% endfor %}",
            {"user"},
        ),
    ],
)
def test_the_roles_whose_names_a_template_shows(source: str, roles: set[str]):
    assert template(source).shows_names == roles
