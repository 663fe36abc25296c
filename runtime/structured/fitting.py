"""Makes all schemas of a constraint fit the compiler."""

from collections.abc import Callable

from msgspec import Struct, structs

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import (
    LeftOut,
    StructuralTag,
    StructuredOutput,
    TagStructure,
)
from runtime.structured.schemas.fitting import FittedSchema, SchemaFitter, Unenforceable

_ANY_OBJECT = '{"type": "object"}'


class FittedConstraint(Struct, frozen=True):
    """A constraint that the compiler reads, and the keywords that it does not enforce."""

    wanted: StructuredOutput
    left_out: tuple[LeftOut, ...] = ()

    def loosened(self) -> "FittedConstraint":
        """The constraint with any object as arguments of calls that are not strict. It serves
        requests whose tools compile one by one but are too many or too large together."""
        tag = self.wanted.structural_tag
        assert tag is not None, "only calls can be loosened"
        loose = [each for each in tag.structures if not each.is_strict]
        notes = [LeftOut(each.source, "", "all tools together are too large") for each in loose]
        structures = tuple(
            each if each.is_strict else structs.replace(each, schema=_ANY_OBJECT)
            for each in tag.structures
        )
        wanted = _with_tag(self.wanted, structs.replace(tag, structures=structures))
        return FittedConstraint(wanted, (*self.left_out, *notes))


class ConstraintFitting:
    """Fits the schemas of constraints. `error_of` says why a schema does not compile; "" if it
    does."""

    def __init__(self, error_of: Callable[[str], str]) -> None:
        self._schemas = SchemaFitter(error_of)

    def fit(self, wanted: StructuredOutput, *, tries: bool = False) -> FittedConstraint:
        """The constraint without what the compiler cannot enforce, see `SchemaFitter.fit`. Raises
        InvalidRequest, which names the parameter and the place, for what has to be enforced."""
        tag = wanted.structural_tag
        if tag is not None:
            return self._fit_tag(wanted, tag, tries=tries)
        if wanted.json is None:
            return FittedConstraint(wanted)
        fitted = self._fit(wanted.json, wanted, None, tries=tries)
        return FittedConstraint(structs.replace(wanted, json=fitted.text), fitted.left_out)

    def _fit_tag(
        self, wanted: StructuredOutput, tag: StructuralTag, *, tries: bool
    ) -> FittedConstraint:
        fitted = [self._fit(each.schema, wanted, each, tries=tries) for each in tag.structures]
        structures = tuple(
            structs.replace(each, schema=schema.text)
            for each, schema in zip(tag.structures, fitted, strict=True)
        )
        content = tag.content
        if content is not None:
            fitted.append(self._fit(content, wanted, None, tries=tries))
            content = fitted[-1].text
        left_out = tuple(note for schema in fitted for note in schema.left_out)
        tag = structs.replace(tag, structures=structures, content=content)
        return FittedConstraint(_with_tag(wanted, tag), left_out)

    def _fit(
        self, text: str, wanted: StructuredOutput, structure: TagStructure | None, *, tries: bool
    ) -> FittedSchema:
        owner = wanted if structure is None else structure
        try:
            return self._schemas.fit(text, owner.source, is_strict=owner.is_strict, tries=tries)
        except Unenforceable as error:
            where = f"in its schema, at `{error.path}`: " if error.path else ""
            way_out = " Without `strict: true` it is left out." if error.is_optional else ""
            raise InvalidRequest(
                f"`{owner.source}` cannot be enforced: {where}{error}.{way_out}",
                param=owner.source,
                code="invalid_value" if structure is None else "invalid_function_parameters",
            ) from error


def _with_tag(wanted: StructuredOutput, tag: StructuralTag) -> StructuredOutput:
    return structs.replace(wanted, structural_tag=tag)
