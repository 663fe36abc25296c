"""Several models in the settings: `[models.NAME]` tables over the general sections."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from gateway.settings.mistakes import raise_mistake
from gateway.settings.schema import NamedModelSettings, PriceSettings, Settings
from runtime.errors import SetupError

SECTION = "models"

_TABLES = {SECTION: NamedModelSettings, "prices": PriceSettings}
"""The sections whose keys are names of models."""

_SHARED = ("folder", "mirrors", "aliases")
"""Settings of `[model]` that are for all models."""

_NO_LETTER = re.compile(r"[^a-z0-9]")


def check_tables(origin: str, document: Mapping[str, Any]) -> None:
    """Raises SetupError for the first mistake in a model's table. It names the model, which
    msgspec's own message does not."""
    for section, kind in _TABLES.items():
        tables = document.get(section)
        for name, table in tables.items() if isinstance(tables, dict) else ():
            try:
                msgspec.convert(table, kind)
            except msgspec.ValidationError as error:
                raise_mistake(origin, table, str(error), kind, (section, name))


def with_general_settings(document: dict[str, Any]) -> dict[str, Any]:
    """The settings with each model's table completed: its engine is the general one with what the
    table changes, its name is that of the catalogue if it says no other, and the model that
    `[model]` names is one of them, the first."""
    models = document.get(SECTION)
    if not models:
        return document
    shared = {key: document.get("model", {}).get(key) for key in ("folder", "mirrors")}
    general = {key: value for key, value in shared.items() if value is not None}
    engine = document.get("engine", {})
    tables = {**_short_form(document), **models}
    complete = {
        name: {
            "name_or_path": name,
            **general,
            **table,
            "engine": _merged(engine, table.get("engine", {})),
        }
        for name, table in tables.items()
    }
    return {**document, SECTION: complete}


def _short_form(document: Mapping[str, Any]) -> dict[str, Any]:
    """The table of the model that `[model]` names; empty if it names none."""
    table = {k: v for k, v in document.get("model", {}).items() if k not in _SHARED}
    if not table:
        return {}
    served_name = table.pop("served_name", "")
    named = table.get("name_or_path", "")
    if not (served_name or named):
        raise SetupError(
            f"model.{next(iter(table))}: with [models] tables this belongs to a model; put it into"
            " the model's own table, or set model.name_or_path"
        )
    name = served_name or name_in_api(named)
    if name in document[SECTION]:
        raise SetupError(f"model and models.{name} are two models of one name; name another")
    return {name: {"load": "start", **table}}


def name_in_api(name_or_path: str) -> str:
    """The name of a model that has no other: that of the catalogue, else the file's stem or the
    folder's name."""
    if Path(name_or_path).is_dir():
        return Path(name_or_path).resolve().name
    return Path(name_or_path).stem if name_or_path.endswith(".gguf") else name_or_path


def _merged(general: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The general table with the entries of its own; a table within is merged likewise. Tables of
    different kinds of speculation are not: the own one is taken as it is."""
    merged = dict(general)
    for key, value in own.items():
        before = merged.get(key)
        if isinstance(before, dict) and isinstance(value, dict) and _are_alike(before, value):
            merged[key] = _merged(before, value)
        else:
            merged[key] = value
    return merged


def _are_alike(general: Mapping[str, Any], own: Mapping[str, Any]) -> bool:
    return bool(own.get("method", general.get("method")) == general.get("method"))


def check_names(settings: Settings) -> None:
    """Raises SetupError for a table that says its name twice, and for a name that logs and tables
    cannot show."""
    own_name = settings.model.served_name
    for name in (*settings.models, *([own_name] if own_name else ())):
        if not name.strip() or not name.isprintable():
            raise SetupError(f"the model name {name!r} is not a line of printable characters")
    for name, model in settings.models.items():
        if model.served_name:
            raise SetupError(
                f"models.{name}.served_name: the table's name is the model's name; leave it out"
            )


def named_path(path: tuple[str, ...], known: Iterable[str]) -> tuple[str, ...]:
    """The keys down to a setting, with a model's name as one key.

    A name is found in whatever was left of it: its dots separate keys, and variables of the
    environment have neither capital letters nor signs. Everything else is in lower case.
    """
    if path[:1] != (SECTION,) or len(path) < 2:
        return tuple(key.lower() for key in path)
    for end in range(len(path), 1, -1):
        written = ".".join(path[1:end])
        for name in known:
            if written == name or _plain(written) == _plain(name):
                return (SECTION, name, *(key.lower() for key in path[end:]))
    return (SECTION, path[1], *(key.lower() for key in path[2:]))


def _plain(name: str) -> str:
    return _NO_LETTER.sub("_", name.lower())
