"""Settings: declared as frozen Structs, read from four places, refused when they are wrong.

Later places win: the defaults below, the settings file, environment variables
(`LOCKGATE__SERVER__PORT=8001`), command-line options. The file is the one named by `--config`,
else by the variable `LOCKGATE_CONFIG`, else `settings.toml` in the working directory if there is
one. A key that nobody knows or a value of the wrong type is a `SetupError` that names the place
and the path of the mistake.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, NoReturn, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta, Struct

from runtime.config.engine import EngineConfig
from runtime.errors import SetupError

CONFIG_VARIABLE = "LOCKGATE_CONFIG"
VARIABLE_PREFIX = "LOCKGATE__"
DEFAULT_FILE = "settings.toml"

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
ReasoningParser = Literal[
    "auto",
    "none",
    "qwen3",
    "deepseek_r1",
    "openai_gptoss",
    "mistral",
    "gemma4",
    "seed_oss",
    "granite",
    "exaone",
    "kimi",
]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]
ToolDialect = Literal[
    "auto",
    "hermes",
    "llama3",
    "mistral",
    "mistral_args",
    "deepseek_v3",
    "deepseek_v31",
    "harmony",
    "phi",
    "functiongemma",
    "gemma4",
    "json",
]
Monitoring = Literal["admin", "key", "loopback", "open"]


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The HTTP server. Times in seconds, sizes in bytes. Port 0 takes a free port.

    `keep_alive_interval` is how long a stream may be silent before a comment is sent down it;
    `keep_alive_timeout` is how long a connection without a request stays open. `header_timeout`,
    `body_timeout` and `write_timeout` are how long a client may take to send its headers and its
    body, and to take a part of the answer; `request_timeout` is for all of a request, 0 without
    end. `allowed_hosts` and `cors_allow_origins` are about web pages (`gateway.admission.web_origin`).
    `tls_certificate` and `tls_key` are PEM files; empty means plain HTTP.
    """

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8000
    max_body_bytes: Annotated[int, Meta(ge=1)] = 10_000_000
    drain_timeout: Annotated[float, Meta(ge=0, le=86_400)] = 30.0
    keep_alive_interval: Seconds = 15.0
    keep_alive_timeout: Annotated[int, Meta(ge=1, le=86_400)] = 75
    max_header_bytes: Annotated[int, Meta(ge=1024)] = 65_536
    header_timeout: Seconds = 15.0
    body_timeout: Seconds = 60.0
    write_timeout: Seconds = 60.0
    request_timeout: Annotated[float, Meta(ge=0, le=86_400)] = 3600.0
    allow_unauthenticated: bool = False
    allowed_hosts: list[str] = []
    cors_allow_origins: list[str] = []
    tls_certificate: str = ""
    tls_key: str = ""


class AuthSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may use the server. `keys_file` is a TOML file of keys (`docs/security.md`); keys of the
    environment come on top. Without any key the server asks for none.

    `monitoring` says who may read `/metrics` and `/health` once there are keys: "admin" keys, every
    "key", those and clients on "loopback", or everybody, "open".
    """

    keys_file: str = ""
    monitoring: Monitoring = "admin"


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which model is served, and under which name.

    `name_or_path` is a name of the catalogue or the path of a `.gguf` file or of a Hugging Face
    checkpoint folder. `served_name` is the model's name in the API; empty means the catalogue name,
    the file's stem or the folder's name. `folder` is where models are kept; empty means the user's
    own folder. `tokenizer` is for the scripted engine alone: a model whose tokenizer it borrows;
    empty means one token per byte. `aliases` are further names of served models, alias to name.
    `tool_dialect` is how the model calls tools; "auto" goes by its chat template.

    `reasoning_parser` is how the model's answers show that it thinks; "auto" looks at its chat
    template. `thinking_token_budget` is how many tokens it may think where the request does not
    say; `thinking_budget_message` is put into its mouth when they are used up.
    `system_fingerprint` says whether answers tell what program, engine and model made them.
    `is_matryoshka` is whether its embeddings may be cut short; "auto" looks at the file's tags.
    """

    name_or_path: Annotated[str, Meta(min_length=1)] = "qwen2.5-coder-0.5b-instruct"
    served_name: str = ""
    folder: str = ""
    tokenizer: str = ""
    aliases: dict[Annotated[str, Meta(min_length=1)], str] = {}
    tool_dialect: ToolDialect = "auto"
    reasoning_parser: ReasoningParser = "auto"
    thinking_token_budget: Annotated[int, Meta(ge=0)] | Literal["none"] = "none"
    thinking_budget_message: str = ""
    system_fingerprint: bool = True
    is_matryoshka: bool | Literal["auto"] = "auto"


class GpuSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Watching the NVIDIA GPUs. `interval` is in seconds between two readings.

    `min_free_memory_gb` is how many gigabytes (10^9 bytes) have to be free on each GPU for a
    request to be let in. 0 watches nothing; "auto" watches only beside the TensorRT engine: half of
    what it leaves free when it has loaded, at most a quarter of a gigabyte. `devices` are those
    GPUs, numbered as `nvidia-smi` does; empty means those of CUDA_VISIBLE_DEVICES, else all.
    """

    enabled: bool = True
    interval: Annotated[float, Meta(ge=0.1, le=3600)] = 2.0
    min_free_memory_gb: Annotated[float, Meta(ge=0)] | Literal["auto"] = "auto"
    devices: list[Annotated[int, Meta(ge=0)]] = []


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log on stderr. `auto` is console on a terminal and JSON everywhere else. `access` writes
    a line for each request when it is over. With `prompts` every request's body is in it."""

    level: LogLevel = "info"
    format: LogFormat = "auto"
    prompts: bool = False
    access: bool = True


class MetricsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What /metrics shows. `max_keys` is how many API keys get a label of their own, the others
    being "other"; 0 keeps nothing by key."""

    max_keys: Annotated[int, Meta(ge=0, le=10_000)] = 0


class OtelSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """OpenTelemetry traces. `endpoint` is a collector's base URL for OTLP over HTTP; empty is off.
    `sample_ratio` of the requests are traced, unless the client's trace decides."""

    endpoint: str = ""
    service_name: Annotated[str, Meta(min_length=1)] = "lockgate"
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    model: ModelSettings = ModelSettings()
    engine: EngineConfig = EngineConfig()
    gpu: GpuSettings = GpuSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    otel: OtelSettings = OtelSettings()


class Override(Struct, frozen=True):
    """One value given as text. `origin` is what the user wrote (`--port`, a variable's name)."""

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
        _set(document, override.path, _value_of(override))
    try:
        settings = msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:  # keys that are right alone and wrong together
        _raise_mistake("settings", document, str(error))
    _check_thinking(settings)
    return settings


def _check_thinking(settings: Settings) -> None:
    """A default that the engine refuses would fail every chat of a model that thinks."""
    engine, model = settings.engine, settings.model
    drafts = engine.tensorrt_llm.speculative.__struct_config__.tag != "none"
    has_budget = model.thinking_token_budget != "none" and model.reasoning_parser != "none"
    if engine.name == "tensorrt_llm" and drafts and has_budget:
        raise SetupError(
            "model.thinking_token_budget cannot be kept while engine.tensorrt_llm.speculative"
            ' drafts tokens; leave one of them out, or set model.reasoning_parser = "none"'
        )


def _settings_file(config: str | None, environ: Mapping[str, str]) -> Path | None:
    named = config or environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named).expanduser()
    default = Path(DEFAULT_FILE)
    return default if default.is_file() else None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or error
        raise SetupError(f"the settings file {file} cannot be read: {reason}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(f"{file} is not valid TOML: {error}") from error
    try:
        msgspec.convert(document, Settings)
    except msgspec.ValidationError as error:
        _raise_mistake(str(file), document, str(error))
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
    """The text as the type that the setting has: a number, true or false, JSON for a list."""
    kind = _type_at(override.origin, override.path)
    try:
        if _is_container(kind):
            return msgspec.json.decode(override.text.encode(), type=kind)
        return msgspec.convert(override.text, kind, strict=False)
    except msgspec.DecodeError as error:
        path = _dotted(override.path)
        raise SetupError(
            f"{override.origin}: {path}: {_reason(str(error), kind, override.text)}"
        ) from error


def _type_at(origin: str, path: tuple[str, ...]) -> Any:
    kind: Any = Settings
    for depth, key in enumerate(path):
        fields = _fields(kind)
        if key not in fields:
            _raise_unknown(origin, path[:depth], key, fields)
        kind = fields[key]
    if fields := _fields(kind):
        raise SetupError(
            f"{origin}: {_dotted(path)} is a section; set one of its keys: {', '.join(fields)}"
        )
    return kind


def _fields(kind: Any) -> dict[str, Any]:
    """The keys of a section and their types; empty for a plain setting. A section that comes in
    several forms, told apart by one key, has the keys of all of them."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}
    forms = _forms(kind)
    fields = {key: form for part in forms for key, form in _fields(part).items()}
    if forms and (key := forms[0].__struct_config__.tag_field):
        fields[key] = Literal[tuple(part.__struct_config__.tag for part in forms)]
    return fields


def _forms(kind: Any) -> list[type[Struct]]:
    """The Structs of a tagged union; empty for everything else."""
    if get_origin(kind) not in (Union, UnionType):
        return []
    parts = get_args(kind)
    tagged = [p for p in parts if isinstance(p, type) and issubclass(p, Struct)]
    return tagged if len(tagged) == len(parts) else []


def _is_container(kind: Any) -> bool:
    return get_origin(_bare(kind)) in (list, tuple, dict, set, frozenset)


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _set(document: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    for key in path[:-1]:
        document = document.setdefault(key, {})
    document[path[-1]] = value


_UNKNOWN = re.compile(r"unknown field `(?P<key>[^`]*)`(?: - at `\$\.?(?P<path>[^`]*)`)?")
_MISSING = re.compile(r"missing required field `(?P<key>[^`]*)`")
_PLACE = re.compile(r"^(?P<reason>.*?)(?: - at `\$\.?(?P<path>[^`]*)`)?$", re.DOTALL)


def _raise_mistake(origin: str, document: dict[str, Any], message: str) -> NoReturn:
    """Turns msgspec's message about the document into one line for the person who wrote it."""
    if unknown := _UNKNOWN.search(message):
        path = _split(unknown["path"])
        _raise_unknown(origin, path, unknown["key"], _fields(_walk(Settings, path)))
    place = _PLACE.match(message)
    assert place is not None, "the pattern matches any text"
    path = _split(place["path"])
    value: Any = document
    for key in path:
        value = value[key]
    reason = _reason(place["reason"], _walk(Settings, path), value)
    raise SetupError(f"{origin}: {_dotted(path)}: {reason}")


def _raise_unknown(
    origin: str, parent: tuple[str, ...], key: str, known: Iterable[str]
) -> NoReturn:
    names = list(known)
    close = difflib.get_close_matches(key, names, n=1)
    if close:
        hint = f"did you mean {close[0]}?"
    elif names:
        hint = f"known here: {', '.join(names)}"
    else:
        hint = f"{_dotted(parent)} has no keys"
    raise SetupError(f"{origin}: {_dotted((*parent, key))} is not a setting; {hint}")


def _walk(kind: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        kind = _fields(kind).get(key)
    return kind


def _reason(message: str, kind: Any, value: object) -> str:
    if missing := _MISSING.search(message):
        return f"the key {missing['key']} is missing"
    if "enum value" in message or "got `" in message or not message.startswith("Expected"):
        return f"expected {_describe(kind)}, got {_shown(value)}"
    return f"e{message[1:].replace('`', '')}, got {_shown(value)}"


def _shown(value: object) -> str:
    return "a table" if isinstance(value, dict) else repr(value)


_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}


def _describe(kind: Any) -> str:
    kind = _bare(kind)
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_describe(part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return " or ".join(repr(value) for value in get_args(kind))
    if _fields(kind):
        return f"a table with the keys {', '.join(_fields(kind))}"
    return _KINDS.get(cast(type, kind), "a JSON value of the right type")


def _split(path: str | None) -> tuple[str, ...]:
    return tuple(path.split(".")) if path else ()


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(("$", *path))
