"""The list of models as Structs."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class Model(Struct, frozen=True, kw_only=True):
    """A name that requests may use. `root` is the model that answers, and `parent` the model that
    an adapter is added to. `max_model_len` is in tokens; it and `capabilities` are absent until the
    model was loaded once. `state` says whether it is loaded. OpenAI does not have these five."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "lockgate"
    root: str
    parent: str | None = None
    max_model_len: int | UnsetType = UNSET
    state: str = "ready"
    capabilities: list[str] | UnsetType = UNSET


class ModelList(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[Model]
