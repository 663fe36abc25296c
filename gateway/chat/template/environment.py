"""The Jinja environment that chat templates are written for: that of transformers.

A template is a program by the model's author, so it runs in Jinja's sandbox, which also keeps it
from changing its input.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import TemplateError, meta
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node, Scope
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from runtime.errors import ModelFileError

Render = Callable[[Mapping[str, Any]], str]
"""Renders variables to a prompt; raises whatever the template raises."""


def compile_template(source: str) -> Render:
    """The function that renders a template. Raises ModelFileError if it is no Jinja template."""
    try:
        return _ENVIRONMENT.from_string(source).render
    except Exception as error:  # Jinja's compiler lets errors of Python's compiler through
        line = getattr(error, "lineno", None)
        place = f"line {line}: " if line else ""
        raise ModelFileError(f"it is not a Jinja template: {place}{error}") from error


def variables_of(source: str) -> frozenset[str]:
    """The names of the variables that a template reads. Its source compiles."""
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))


class _Generation(Extension):
    """The tag around what the model has written. It marks texts for training, and has no effect on
    prompts."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return Scope(body, lineno=line)


class _Namespace(Namespace):
    """Jinja's namespace without names that begin with an underscore, which Python gives a meaning
    of its own."""

    def __init__(*args: Any, **values: Any) -> None:
        self, *others = args
        names = dict(*others, **values)
        for name in names:
            _check_name(name)
        Namespace.__init__(self, names)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a namespace has no place for the name {name!r}")


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without the escapes for HTML that Jinja's own filter makes."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "namespace": _Namespace,
    }
    return environment


_ENVIRONMENT = _environment()
