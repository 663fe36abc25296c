"""Served models by name, each with its engine, tokenizer, template and reasoning."""

import copy
from collections.abc import Collection, Iterator, Mapping

from gateway.errors import UnknownModel
from gateway.models.served_model import (
    ServedModel,
)
from runtime.errors import InvalidRequest, SetupError


class ModelRegistry:
    """Models by the names that requests use: each model's own name, the names of its adapters (name
    to model), and aliases of these names (alias to name).

    A request for an alias is answered by, and under the name of, the model or adapter behind it.
    """

    def __init__(
        self,
        models: list[ServedModel],
        *,
        adapters: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self._models = {model.name: model for model in models}
        self._adapters = dict(adapters or {})
        for name in self._adapters.keys() & self._models.keys():
            raise SetupError(f"an adapter has the name of the model {name!r}; give it another one")
        self.check_aliases(aliases or {})
        self.set_aliases(aliases or {})
        self._allowed: tuple[str, ...] | None = None

    def check_aliases(self, aliases: Mapping[str, str]) -> None:
        """Raises SetupError for an alias that is a name already, or of a name that is none."""
        names = self._models.keys() | self._adapters.keys()
        for alias, name in aliases.items():
            if alias in names:
                raise SetupError(f"model.aliases: {alias!r} is a model already; name another")
            if name not in names:
                known = ", ".join(sorted(names))
                raise SetupError(f"model.aliases: there is no model {name!r}; known here: {known}")

    def set_aliases(self, aliases: Mapping[str, str]) -> None:
        """Has these aliases, which have been checked, from the next request on."""
        self._aliases = dict(aliases)

    def add(self, model: ServedModel) -> None:
        """Adds a model under its own name, which no other has."""
        assert model.name not in self.names, "two models of one name: this is a bug"
        self._models[model.name] = model

    def remove(self, name: str) -> None:
        """Forgets a model that `add` has added."""
        del self._models[name]

    @property
    def is_restricted(self) -> bool:
        """Whether only some of the models may be used."""
        return self._allowed is not None

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models.values())

    def restricted(self, names: Collection[str]) -> "ModelRegistry":
        """The same models, but only the models with these names may be used, under any of their
        names."""
        allowed = copy.copy(self)
        allowed._allowed = tuple(names)
        return allowed

    @property
    def names(self) -> list[str]:
        """Every name that a request may use: models, then adapters, then aliases."""
        names = [*self._models, *self._adapters, *self._aliases]
        return [name for name in names if self.may_use(name)]

    def get(self, name: str) -> ServedModel:
        """Raises UnknownModel, also for a model that `restricted` excludes: a key does not learn
        which models there are beside its own."""
        own_name = self._aliases.get(name, name)
        base = self._models.get(self._adapters.get(own_name, own_name))
        if base is None or not self.may_use(name):
            raise UnknownModel(name, self.names, is_restricted=self._allowed is not None)
        return base if own_name == base.name else base.with_adapter(own_name)

    def default(self, name: str) -> str:
        """The name of the model of requests that name none: the server's own, which has this
        `name`, or the first allowed one if that may not be used. Raises InvalidRequest if none
        is allowed."""
        if self._allowed is None or self.may_use(name):
            return name
        if not self._allowed:
            raise InvalidRequest(
                "This key may use no model.", param="model", code="model_not_found"
            )
        known = (allowed for allowed in self._allowed if allowed in self.names)
        return next(known, self._allowed[0])

    def base_of(self, name: str) -> str | None:
        """The base model of an adapter; None for all other names."""
        return self._adapters.get(name)

    @property
    def adapter_names(self) -> list[str]:
        """The names of all adapters."""
        return list(self._adapters)

    def check_free(self, name: str) -> None:
        """Raises InvalidRequest for a name that a model, an adapter or an alias has."""
        if name in self._models or name in self._adapters or name in self._aliases:
            raise InvalidRequest(
                f"There is a model `{name}` already. Choose another name, or unload it first.",
                param="lora_name",
            )

    def add_adapter(self, name: str, base: str) -> None:
        """From now on requests may name this adapter of the model `base`. Raises InvalidRequest for
        a name that is taken."""
        self.check_free(name)
        self._adapters[name] = base

    def remove_adapter(self, name: str) -> None:
        """From now on no request may name this adapter."""
        del self._adapters[name]

    def may_use(self, name: str) -> bool:
        """Whether this name may be used if there is a model behind it."""
        if self._allowed is None:
            return True
        return name in self._allowed or self._aliases.get(name, name) in self._allowed
