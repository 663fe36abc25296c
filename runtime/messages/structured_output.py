"""Constraints on the form of an answer, independent of any API."""

from msgspec import Struct


class LeftOut(Struct, frozen=True, array_like=True):
    """A keyword of a JSON schema that is not enforced. `source` is the request parameter with the
    schema, `path` the keyword's place in it, such as `properties.a.pattern`, and `reason` says why
    in words."""

    source: str
    path: str
    reason: str


class TagStructure(Struct, frozen=True, array_like=True):
    """One tool call as it stands between the opening and the close of a `StructuralTag`: `begin`,
    JSON that fits `schema` (the text of a JSON schema), `end`. Where `is_strict` is false, keywords
    of the schema that cannot be enforced are left out. `source` is the parameter that gave it,
    `name` the function's name."""

    begin: str
    schema: str
    end: str
    is_strict: bool
    source: str
    name: str = ""


class ArgumentTags(Struct, frozen=True, array_like=True):
    """How arguments that are text between tags stand in a call: `before_key`, the argument's name,
    `before_value`, the value with `margin` before and behind it, `value_end`, `after`."""

    before_key: str
    before_value: str
    value_end: str
    margin: str = ""
    after: str = ""


class StructuralTag(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Text in which a model may call tools, each call of one of the forms in `structures`.

    Anything may come until `trigger`, with which `opening` begins; from there on it is `opening`,
    calls with `separator` between them, `close`, and the end. With `at_start` only the beginning of
    the answer is looked at; with `must_call` the answer begins with `opening`; with
    `stop_after_first` there is one call. `content` is the text of a JSON schema for answers without
    a call, which are free without it, and `answer` stands before such content. Where something has
    to come, thoughts between `thought_start` and `thought_end` may come first, unless both are "".
    `special_tokens` are names and ids of the tokens in these texts that stand for no text. With
    `bare_calls` an answer may also begin with calls without an opening (`bare_calls.py`), which are
    then enforced as well. With `arguments` there is text between tags in the place of JSON.
    """

    trigger: str
    opening: str
    separator: str
    close: str
    structures: tuple[TagStructure, ...]
    at_start: bool = False
    must_call: bool = False
    stop_after_first: bool = False
    content: str | None = None
    answer: str = ""
    thought_start: str = ""
    thought_end: str = ""
    special_tokens: tuple[tuple[str, int], ...] = ()
    bare_calls: bool = False
    arguments: ArgumentTags | None = None

    @property
    def is_optional(self) -> bool:
        """Whether unconstrained text is a valid answer too. An engine that cannot enforce this
        constraint may then ignore it."""
        is_strict = any(structure.is_strict for structure in self.structures)
        return not self.must_call and self.content is None and not is_strict


class StructuredOutput(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A constraint on the form of the answer; exactly one field is set. Names as in vLLM.

    `json` is the text of a JSON schema, `regex` a regular expression for the whole answer,
    `grammar` a context-free grammar in EBNF, `choice` the answers to choose from; `json_object`
    allows any JSON object; `structural_tag` is a text with tool calls. `source` is the request
    parameter that asked for the constraint; errors name it. With `is_strict` a keyword of `json`,
    or of the tag's `content`, that cannot be enforced is an error; otherwise it is left out.
    """

    json: str | None = None
    regex: str | None = None
    grammar: str | None = None
    choice: tuple[str, ...] = ()
    json_object: bool = False
    structural_tag: StructuralTag | None = None
    source: str = "response_format"
    is_strict: bool = False

    def __post_init__(self) -> None:
        fields = (self.json, self.regex, self.grammar, self.structural_tag)
        num_set = sum(field is not None for field in fields)
        if num_set + bool(self.choice) + self.json_object != 1:
            raise ValueError(
                "exactly one of json, regex, grammar, choice, json_object and structural_tag must"
                " be set"
            )

    @property
    def is_optional(self) -> bool:
        """Whether an engine that cannot enforce the constraint may ignore it."""
        return self.structural_tag is not None and self.structural_tag.is_optional
