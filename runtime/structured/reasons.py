"""Why a grammar was refused, in words for the user."""

import re

_MAX_REASON = 500

_TOO_LARGE = "it is too large: it allows too many ways to go on. Use fewer or smaller repetitions"

_WORDS: tuple[tuple[str, str], ...] = (
    (
        r"look-?arounds?\b",
        r"it has look-around, such as `(?=`, `(?!`, `(?<`, `\\b`, or `^` and `$` in the middle,"
        " which cannot be enforced",
    ),
    (r"backreferences are not supported", "it has a back-reference, which cannot be enforced"),
    (r"regex parse error:.* error: (.*?)(?: \d+ \|.*)?$", r"it is no regular expression: \1"),
    (r"Regex is empty", "no text fits it"),
    (
        r"NoExtensionBias",
        "no text fits it: perhaps a rule needs itself before anything else, or a set of characters"
        " is empty",
    ),
    (
        r"too many expressions|Too many items|too (?:big|large|many)|[Ff]uel|max_grammar_size",
        _TOO_LARGE,
    ),
    (r"recursion limit exceeded|maximum recursion depth", "it is nested too deeply"),
    (r'unknown name: "(.*?)"', r"the rule `\1` is used and not defined"),
    (r"Rule '(.*?)' not found", r"the rule `\1` is used and not defined"),
    (
        r'circular reference in token "(.*?)"',
        r"the token `\1` needs itself: a rule may do so, and has a name in small letters",
    ),
    (r"No 'root' rule found", "it has neither a rule `start` (Lark) nor a rule `root` (GBNF)"),
    (
        r"Expected ::= at line (\d+)",
        r"it is read as GBNF, because it has no rule `start:`, and its line \1 has no `::=`",
    ),
    (r"Unimplemented keys: \[(.*?)\]", r"it has \1, which cannot be enforced"),
    (r"oneOf constraints are not supported", "the alternatives of its `oneOf` may overlap"),
    (
        r"min/maxProperties only supported",
        "a number of properties cannot be enforced where properties have names and may be missing",
    ),
    (r"circular references with sibling keys", "it refers to itself with other keywords beside"),
    (r"Unsatisfiable schema", "no value fits it"),
    (r"Failed to generate regex for float range", "its bounds are too large or too small"),
)
"""Regular expressions for the compiler's errors, and what each error means."""


def one_line(reason: str) -> str:
    """The meaning of one of llguidance's errors, on one line of bounded length. An error whose
    meaning is not known stays as it is, without the state of the parser."""
    line = " ".join(reason.replace("<non-verbose/>", "").partition("<state>")[0].split())
    for pattern, words in _WORDS:
        if match := re.search(pattern, line):
            line = match.expand(words)
            break
    return line if len(line) <= _MAX_REASON else f"{line[:_MAX_REASON]}…"
