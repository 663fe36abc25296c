"""Reads the settings from four sources and checks them.

A later source overrides an earlier one: the defaults in `schema`, the settings file, environment
variables (`LOCKGATE__SERVER__PORT=8001`), options of the command line. `--config` names the file;
without it the variable `LOCKGATE_CONFIG` does; without both, it is `settings.toml` in the working
directory, if there is one. An unknown key or a value of the wrong type raises a `SetupError`, which
names the source and the setting.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from gateway.settings.mistakes import (
    check_text,
    check_zeros,
    dotted,
    fields_of,
    is_container,
    is_table,
    not_json,
    raise_mistake,
    raise_unknown,
    reason_at,
    section_in,
    toml_reason,
    whole_table,
)
from gateway.settings.schema import (
    ModelSettings,
    Settings,
)
from gateway.settings.several_models import (
    check_names,
    check_tables,
    named_path,
    with_general_settings,
)
from gateway.settings.store_place import check_store_place
from gateway.settings.web_origins import check_web_origins
from runtime.config.engine import EngineConfig
from runtime.errors import SetupError
from runtime.models.mirrors import check_mirror

CONFIG_VARIABLE = "LOCKGATE_CONFIG"
VARIABLE_PREFIX = "LOCKGATE__"
DEFAULT_FILE = "settings.toml"


class Override(Struct, frozen=True):
    """One setting, given as text. `origin` is where the user wrote it: an option such as `--port`,
    or the name of a variable."""

    origin: str
    path: tuple[str, ...]
    text: str


def load_settings(
    config: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    options: Sequence[Override] = (),
) -> Settings:
    """The settings of this run. Raises `SetupError` at the first mistake."""
    document: dict[str, Any] = {}
    file = _settings_file(config, environ)
    if file is not None:
        document = _read_file(file)
    for override in [*_from_environment(environ), *options]:
        path = named_path(override.path, document.get("models", {}))
        override = msgspec.structs.replace(override, path=path)
        _set(document, override.path, _value_of(override))
    document = with_general_settings(document)
    settings = _convert("settings", document)  # each value is valid alone, but perhaps not together
    check_zeros(document)
    check_together(settings)
    return settings


def check_together(settings: Settings) -> None:
    """Raises SetupError for settings that are valid one by one, but not all together."""
    check_names(settings)
    _check_thinking("model", settings.model, settings.engine)
    _check_mirrors("model", settings.model)
    for name, model in settings.models.items():
        _check_thinking(f"models.{name}", model, model.engine)
        _check_mirrors(f"models.{name}", model)
    check_web_origins(settings.server)
    check_store_place(settings.store)


def _convert(origin: str, document: dict[str, Any]) -> Settings:
    """Raises SetupError for a mistake in the document."""
    check_tables(origin, document)
    try:
        return msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        raise_mistake(origin, document, str(error))


def _check_mirrors(section: str, model: ModelSettings) -> None:
    for mirror in model.mirrors:
        try:
            check_mirror(mirror)
        except SetupError as error:
            raise SetupError(f"{section}.mirrors: {error}") from error


def _check_thinking(section: str, model: ModelSettings, engine: EngineConfig) -> None:
    """Raises SetupError for a default thinking budget that the engine cannot enforce. Otherwise the
    engine would refuse every chat with a reasoning model."""
    has_budget = model.thinking_token_budget != "none" and model.reasoning_parser != "none"
    if has_budget and (drafts := engine.budget_obstacle):
        raise SetupError(
            f"{section}.thinking_token_budget cannot be kept while {drafts}"
            f' drafts tokens; leave one of them out, or set {section}.reasoning_parser = "none"'
        )


def _settings_file(config: str | None, environ: Mapping[str, str]) -> Path | None:
    named = config or environ.get(CONFIG_VARIABLE)
    if named:
        check_text("--config" if config else CONFIG_VARIABLE, named)
        return Path(named).expanduser()
    default = Path(DEFAULT_FILE)
    return default if default.is_file() else None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = error.strerror or error
        raise SetupError(f"the settings file {file} cannot be read: {reason}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"{file} is not valid TOML: {toml_reason(error)}") from error
    _convert(str(file), document)
    return document


def _from_environment(environ: Mapping[str, str]) -> list[Override]:
    overrides: dict[tuple[str, ...], Override] = {}
    for name in sorted(environ):
        if not name.upper().startswith(VARIABLE_PREFIX):
            continue
        path = tuple(name[len(VARIABLE_PREFIX) :].lower().split("__"))
        if path in overrides:
            raise SetupError(f"{overrides[path].origin} and {name} are the same setting")
        overrides[path] = Override(name, path, environ[name])
    return list(overrides.values())


def _value_of(override: Override) -> object:
    """The text converted to the setting's type. Lists and tables are written as JSON. Raises
    SetupError."""
    check_text(override.origin, override.text)
    kind = _type_at(override.origin, override.path)
    value: Any = override.text
    if is_container(kind):
        value = _json_of(override, kind)
    try:
        return msgspec.convert(value, kind, strict=is_container(kind))
    except msgspec.ValidationError as error:
        reason = reason_at(override.path, kind, value, str(error))
        raise SetupError(f"{override.origin}: {reason}") from error


def _json_of(override: Override, kind: Any) -> Any:
    try:
        return msgspec.json.decode(override.text)
    except msgspec.DecodeError as error:
        raise SetupError(
            f"{override.origin}: {dotted(override.path)}: {not_json(kind, override.text)}"
        ) from error


def _type_at(origin: str, path: tuple[str, ...]) -> Any:
    kind: Any = Settings
    for depth, key in enumerate(path):
        fields = fields_of(kind)
        if section := section_in(kind):
            kind = section
            continue
        if is_table(kind):
            raise SetupError(f"{origin}: {whole_table(path[:depth], key)}")
        if key not in fields:
            raise_unknown(origin, path[:depth], key, fields)
        kind = fields[key]
    if fields := fields_of(kind):
        raise SetupError(
            f"{origin}: {dotted(path)} is a section; set one of its keys: {', '.join(fields)}"
        )
    return kind


def _set(document: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        document = document.setdefault(key, {})
    document[path[-1]] = value
