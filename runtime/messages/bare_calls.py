"""How tool calls without a mark look. Grammars enforce such calls and parsers find them, so both
take their patterns from here. Pure.

Such a call is a JSON object with the function's name before its arguments. Other members may come
first, and the call may be wrapped in an object of its own, as in OpenAI's form of a call.
"""

ARGUMENTS = "(?:arguments|parameters)"
"""Names of the member with the arguments."""


def before_calls(blanks: str) -> str:
    """A regular expression for what may come before the first call: a code fence, a list. `blanks`
    is the one for whitespace, here and below."""
    return rf"(?:```(?:json)?{blanks})?(?:\[{blanks})?"


def between_calls(blanks: str) -> str:
    """A regular expression for what may come between two calls."""
    return f"(?:[,;]{blanks})?"


def after_calls(blanks: str) -> str:
    """A regular expression for what may come after the last call."""
    return rf"(?:```|\](?:{blanks}```)?)"


def call_begin(blanks: str) -> str:
    """A regular expression for a call up to the function's name."""
    return rf'\{{{blanks}{_members(blanks)}"(?:name|function)"{blanks}:{blanks}"'


def wrapped_call_begin(blanks: str) -> str:
    """A regular expression for a call in an object of its own, up to the function's name."""
    wrapper = rf'\{{{blanks}{_members(blanks)}"(?:function|function_call)"{blanks}:{blanks}'
    return wrapper + call_begin(blanks)


def _members(blanks: str) -> str:
    """Members that may precede the name."""
    kind = rf'"type"{blanks}:{blanks}"(?:function|function_call|tool_call)"'
    number = rf'"id"{blanks}:{blanks}"[^"\\]{{0,80}}"'
    return f"(?:(?:{kind}|{number}){blanks},{blanks}){{0,2}}"
