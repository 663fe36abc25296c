"""Small chat templates that take, refuse and drop what those of model families do."""

from collections.abc import Mapping

_OPEN = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_PLAIN = "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
_ALTERNATE = (
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('user and assistant take turns') }}{% endif %}"
)
_ONLY_USER_AND_ASSISTANT = (
    "{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('no such role') }}{% endif %}"
)
_FOLD = (
    "{% if messages[0].role == 'system' %}{% set first = messages[0].content ~ '\n\n' %}"
    "{% set rest = messages[1:] %}"
    "{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}"
)
_JSON_CALLS = (
    "{% for c in m.tool_calls or [] %}<tool_call>"
    "{{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}</tool_call>"
    "{% endfor %}"
)
_TOOLS = "{% if tools %}<tools>{{ tools | tojson }}</tools>{% endif %}"
_PARTS = "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}"


def _each(body: str, *, before: str = "", over: str = "messages") -> str:
    return f"{before}{{% for m in {over} %}}{body}{{% endfor %}}{_OPEN}"


TEMPLATES: Mapping[str, str] = {
    "plain": _each(_PLAIN),
    "tools as json": _each(
        "<|im_start|>{{ m.role }}\n{{ m.content }}" + _JSON_CALLS + "<|im_end|>\n", before=_TOOLS
    ),
    "takes turns, no system": _each(_ONLY_USER_AND_ASSISTANT + _ALTERNATE + _PLAIN),
    "takes turns, folds the system": _each(
        _ONLY_USER_AND_ASSISTANT
        + _ALTERNATE
        + "[{{ m.role }}]{{ first if loop.first }}{{ m.content | trim }}\n",
        before=_FOLD,
        over="rest",
    ),
    "takes turns, folds the system into the last": _each(
        _ALTERNATE + "[{{ m.role }}]{{ first if loop.last }}{{ m.content }}\n",
        before=_FOLD,
        over="rest",
    ),
    "drops the system": _each("{% if m.role != 'system' %}" + _PLAIN + "{% endif %}"),
    "drops a later system": _each(
        "{% if m.role != 'system' or loop.first %}" + _PLAIN + "{% endif %}"
    ),
    "refuses a later system, wants a user": _each(
        "{% if m.role == 'system' and not loop.first %}{{ raise_exception('too late') }}{% endif %}"
        + _PLAIN,
        before="{% if not messages | selectattr('role', 'equalto', 'user') | list %}"
        "{{ raise_exception('nobody asks') }}{% endif %}",
    ),
    "takes parts": _each("[{{ m.role }}]" + _PARTS + "\n"),
    "takes parts, and a system as text": _each(
        "[{{ m.role }}]{% if m.role == 'system' %}{{ '' + m.content }}{% else %}"
        + _PARTS
        + "{% endif %}\n"
    ),
    "takes parts of users alone": _each(
        "[{{ m.role }}]{% if m.role == 'user' %}"
        + _PARTS
        + "{% else %}{{ '' + m.content }}{% endif %}\n"
    ),
    "takes parts and turns": _each(
        _ONLY_USER_AND_ASSISTANT + _ALTERNATE + "[{{ m.role }}]" + _PARTS + "\n"
    ),
    "takes parts, first as an image": _each(
        "[{{ m.role }}]{% if m.content[0]['type'] == 'image' %}!{% endif %}" + _PARTS + "\n"
    ),
    "ids of nine, turns without calls": _each(
        "{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]"
        "{% elif m.tool_calls is defined %}{% for c in m.tool_calls %}"
        "{% if c.id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
        "[CALL]{{ c.function | tojson }}{{ c.id }}{% endfor %}"
        "{% elif m.role == 'assistant' %}{{ m.content + eos_token }}"
        "{% elif m.role == 'tool' %}"
        "{% if m.tool_call_id | length != 9 %}{{ raise_exception('nine') }}{% endif %}"
        "[RESULT]{{ m.content }}{{ m.tool_call_id }}"
        "{% else %}{{ raise_exception('no such role') }}{% endif %}",
        before=_FOLD + "{{ first }}{{ tools | tojson if tools }}"
        "{% set ns = namespace(index=0) %}{% for m in rest %}"
        "{% if m.role != 'tool' and not m.tool_calls %}"
        "{% if (m.role == 'user') != (ns.index % 2 == 0) %}"
        "{{ raise_exception('user and assistant take turns') }}{% endif %}"
        "{% set ns.index = ns.index + 1 %}{% endif %}{% endfor %}",
        over="rest",
    ),
    "one call a message, and no text beside it": _each(
        "{% if m.tool_calls %}"
        "{% if m.tool_calls | length > 1 %}{{ raise_exception('one call') }}{% endif %}"
        "{{ m.tool_calls[0].function | tojson }}"
        "{% else %}[{{ m.role }}]{{ m.content }}{% endif %}\n",
        before=_TOOLS,
    ),
    "arguments as text": _each(
        "[{{ m.role }}]{{ m.content }}{% for c in m.tool_calls or [] %}"
        "{{ c.function.name + '|' + c.function.arguments }}{% endfor %}\n",
        before=_TOOLS,
    ),
    "calls beside null": _each(
        "{% if m.tool_calls and m.content is none %}" + _JSON_CALLS + "{% elif m.role == 'tool' %}"
        "<{{ m.content }}>{% else %}[{{ m.role }}]{{ m.content }}{% endif %}\n",
        before=_TOOLS,
    ),
    "walks over arguments": _each(
        "[{{ m.role }}]{{ m.content }}"
        "{% for c in m.tool_calls or [] %}<function={{ c.function.name }}>"
        "{% for key, value in c.function.arguments | items %}"
        "<parameter={{ key }}>{{ value if value is string else value | tojson }}</parameter>"
        "{% endfor %}</function>{% endfor %}\n",
        before=_TOOLS,
    ),
    "results need their call, a call no thought and text": _each(
        "{% if m.role == 'tool' %}"
        "{% if ns.name is none %}{{ raise_exception('no call before') }}{% endif %}"
        "<{{ ns.name }}:{{ m.content }}>"
        "{% elif m.tool_calls %}"
        "{% if m.tool_calls | length > 1 %}{{ raise_exception('1') }}{% endif %}"
        "{% if m.content and m.thinking %}{{ raise_exception('not both') }}{% endif %}"
        "{% set ns.name = m.tool_calls[0].function.name %}"
        "{{ m.thinking or m.content }}{{ m.tool_calls[0].function | tojson }}"
        "{% else %}{% set ns.name = none %}[{{ m.role }}]{{ m.content }}{% endif %}\n",
        before=_TOOLS + "{% set ns = namespace(name=none) %}",
    ),
    "results in parts": _each(
        "[{{ m.role }}]{% if m.role == 'tool' %}"
        + _PARTS
        + "{% else %}{{ m.content }}"
        + _JSON_CALLS
        + "{% endif %}\n",
        before=_TOOLS,
    ),
    "drops calls and results": _each(
        "{% if m.role in ['user', 'assistant', 'system'] %}" + _PLAIN + "{% endif %}"
    ),
    "content must be a string": _each(
        "{% if m.content is not string %}{{ raise_exception('text only') }}{% endif %}" + _PLAIN
    ),
}
"""By behaviour. Each shows a conversation of any shape if it gets it in the right form."""

BROKEN_TEMPLATES: Mapping[str, str] = {
    "Go": "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}",
    "cut off": "{% for m in messages %}{{ m.content }}",
    "an unknown filter": "{% for m in messages %}{{ m.content | shout }}{% endfor %}",
}
"""Texts that Jinja cannot compile."""

BLIND_TEMPLATES: Mapping[str, str] = {
    "refuses everything": "{{ raise_exception('never') }}",
    "drops the user": "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}",
    "divides by zero": "{{ 1 / (messages | length - messages | length) }}",
}
"""Templates that do not show a user's message."""
