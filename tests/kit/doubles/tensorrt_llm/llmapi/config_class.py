"""Makes pydantic classes whose fields are those of one release."""

from typing import Any

import pydantic

from ..facts import ABSENT, default_of


class StrictBaseModel(pydantic.BaseModel):
    """Refuses fields that it does not know."""

    model_config = pydantic.ConfigDict(
        extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True
    )


def config_class(
    name: str,
    fields: dict[str, tuple[Any, Any]],
    base: type[StrictBaseModel] = StrictBaseModel,
) -> Any:
    """A class with `fields`, each a type and a default, less those that the table of facts calls
    absent and with the defaults that it names."""
    made: dict[str, Any] = {}
    for field, (kind, default) in fields.items():
        value = default_of(name, field, default)
        if value is not ABSENT:
            made[field] = (
                kind,
                pydantic.Field(default_factory=value) if callable(value) else value,
            )
    return pydantic.create_model(name, __base__=base, __module__=base.__module__, **made)
