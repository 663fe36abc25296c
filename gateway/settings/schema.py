"""All settings with their defaults."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime.config.engine import EngineConfig
from runtime.errors import SetupError
from runtime.models.mirrors import DEFAULT_MIRRORS

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
    "qwen3_coder",
    "seed_oss",
    "glm45",
    "minimax_m2",
    "json",
]
Monitoring = Literal["admin", "key", "loopback", "open"]
Truncation = Literal["auto", "disabled"]
"""What becomes of a conversation that is too long: it loses its oldest turns, or is refused."""


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The HTTP server. Times are in seconds, sizes in bytes. Port 0 is any free port.

    A body may have `max_body_values` objects, lists and texts, names of fields included, and
    `max_body_entries` entries of lists and objects. All large bodies together may have
    `max_bodies_bytes`, or `max_body_bytes` if that is more.

    After `keep_alive_interval` without an event, a stream gets a comment, so that the connection
    stays open. A connection without a request is closed after `keep_alive_timeout`. A client has
    `header_timeout` for its TLS handshake and to send its headers, `body_timeout` to send its body,
    and `write_timeout` to read a part of the answer. A request may take `request_timeout` in all; 0
    is no limit. When the server is to exit, running requests get `drain_timeout`.

    `allow_unauthenticated` permits other addresses than loopback without a key. `allowed_hosts` and
    `cors_allow_origins` are host names and origins of web pages that may use the server
    (`admission.web_origin`). `tls_certificate` and `tls_key` are PEM files; without them the server
    speaks plain HTTP. `watch_files` puts changes of the settings file, of the keys and of the
    certificate into effect as soon as they are written.
    """

    host: Annotated[str, Meta(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8000
    max_body_bytes: Annotated[int, Meta(ge=1)] = 10_000_000
    max_bodies_bytes: Annotated[int, Meta(ge=1)] = 64_000_000
    max_body_values: Annotated[int, Meta(ge=1)] = 110_000
    max_body_entries: Annotated[int, Meta(ge=1)] = 500_000
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
    watch_files: bool = True


class AuthSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Who may use the server. `keys_file` is a TOML file of keys (`docs/security.md`); keys from
    the environment are valid, too. A server without any key asks for none.

    `monitoring` says who may read `/metrics` and `/health` of a server with keys: "admin" is
    clients with an admin's key, "key" clients with any key, "loopback" clients on this machine and
    admins, "open" everyone.
    """

    keys_file: str = ""
    monitoring: Monitoring = "admin"


TextRole = Literal["query", "document", "classification", "clustering", "similarity"]
"""What a text to embed is for: to search, to be found, to be sorted into classes or into groups, or
to be compared with its like."""


class ModelSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The served model and its name.

    `name_or_path` is a name of the catalogue or of the hub, the URL of a `.gguf` file, or the path
    of one or of a Hugging Face checkpoint folder. `offline` forbids to ask the network for
    models. `served_name` is the model's name in the API; empty means the name itself, the file's
    stem or the folder's name. `folder` is where models are downloaded to; empty means
    `$LOCKGATE_MODELS`, else a folder in the user's cache. `mirrors` are the places to try for a
    model that the hub does not deliver, in order: "package-index", URLs and folders. `tokenizer` is
    for the scripted engine alone: the model whose tokenizer it uses; empty means one token per
    byte. `aliases` maps further names to names of served models. `chat_template` is the path of a
    Jinja template to use instead of the model's own. `tool_dialect` is the format of the model's
    tool calls; "auto" derives it from the chat template.

    `reasoning_parser` is the format of the model's reasoning; "auto" derives it from the chat
    template. `thinking_token_budget` is the maximum number of reasoning tokens for requests that
    set none; `thinking_budget_message` is inserted into the answer when they are used up.
    `truncation` says what becomes of conversations that are too long for the model, for requests
    that do not say it. `system_fingerprint` says whether answers carry the field of this name,
    which changes with program, engine and model. `is_matryoshka` says whether a prefix of an
    embedding is an embedding, too; "auto" looks at the tags of the model file. `prompts` are what
    an embedding model wants before a text, by what the text is for; "auto" takes those of a file
    `config_sentence_transformers.json` in the model's folder, or those that the model is known for.
    """

    name_or_path: Annotated[str, Meta(min_length=1)] = "qwen2.5-coder-0.5b-instruct"
    served_name: str = ""
    folder: str = ""
    mirrors: tuple[Annotated[str, Meta(min_length=1)], ...] = DEFAULT_MIRRORS
    offline: bool = False
    tokenizer: str = ""
    aliases: dict[Annotated[str, Meta(min_length=1)], str] = {}
    chat_template: str = ""
    tool_dialect: ToolDialect = "auto"
    reasoning_parser: ReasoningParser = "auto"
    thinking_token_budget: Annotated[int, Meta(ge=0)] | Literal["none"] = "none"
    thinking_budget_message: str = ""
    truncation: Truncation = "disabled"
    system_fingerprint: bool = True
    is_matryoshka: bool | Literal["auto"] = "auto"
    prompts: dict[TextRole, str] | Literal["auto"] = "auto"


LoadTime = Literal["start", "demand", "never"]
"""When a model is loaded: with the server, by the first request for it, or by an admin alone."""


class NamedModelSettings(ModelSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One of several models, whose table's name is its name in the API.

    `load` says when it is loaded the first time. A model that has been unloaded comes back with the
    next request for it, unless that is "never". After `idle_seconds` without a request it is
    unloaded; 0 keeps it until another model needs its memory. `memory_gb` is what it needs, in
    gigabytes (10^9 bytes) of main memory; "auto" is what its engine was seen to use, and before
    that an estimate by its files. `engine` is the general section with what this table changes.
    """

    load: LoadTime = "demand"
    idle_seconds: Annotated[float, Meta(ge=0, le=31_536_000)] = 0.0
    memory_gb: Annotated[float, Meta(gt=0)] | Literal["auto"] = "auto"
    engine: EngineConfig = EngineConfig()


class LoadingSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How several models share the memory. All loaded models together may need `max_memory_gb`
    gigabytes (10^9 bytes) of main memory; "auto" is what is free. A model that must wait for memory
    longer than `drain_after` seconds gets it from one that is never idle: that one takes no new
    requests and is unloaded when it has answered those it has. A model that could not be loaded is
    not tried again for `retry_seconds`. `allow_unlisted` lets requests name every model that is on
    this machine, and `allow_pull` every model of the catalogue and of the hub, which is downloaded
    first."""

    max_memory_gb: Annotated[float, Meta(gt=0)] | Literal["auto"] = "auto"
    drain_after: Annotated[float, Meta(ge=0, le=86_400)] = 10.0
    retry_seconds: Seconds = 30.0
    allow_unlisted: bool = False
    allow_pull: bool = False

    @property
    def max_bytes(self) -> int | None:
        """`max_memory_gb` in bytes; None is what is free."""
        return None if self.max_memory_gb == "auto" else round(self.max_memory_gb * 1e9)


class StoreSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the server remembers. `path` is the file of the database; empty means `store.db` in
    `$LOCKGATE_DATA`, else in the user's folder for data. `url` is that of a PostgreSQL database in
    its place, which several gateways may share. `responses` and `chat_completions` say whether an
    answer is stored whose request does not say. What is older than `keep_days` is deleted, and the
    oldest where all would take more than `max_gb` gigabytes (10^9 bytes); 0 keeps everything. At
    most `max_background_running` responses are made in the background at a time; others wait."""

    enabled: bool = True
    path: str = ""
    url: str = ""
    responses: bool = True
    chat_completions: bool = False
    keep_days: Annotated[float, Meta(ge=0)] = 30.0
    max_gb: Annotated[float, Meta(ge=0)] = 10.0
    max_background_running: Annotated[int, Meta(ge=1, le=1000)] = 8


Price = Annotated[float, Meta(ge=0, le=1e9)]


class PriceSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a million tokens of one model cost, in whichever currency the budgets are in. A token of
    a prompt that was found in the cache costs `cached_input`; None is as much as the others."""

    input: Price = 0.0
    cached_input: Price | None = None
    output: Price = 0.0


class GpuSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Monitoring of the NVIDIA GPUs. `interval` is the time between two readings in seconds.

    Requests are refused while a GPU has less than `min_free_memory_gb` gigabytes (10^9 bytes) free.
    0 turns this off. "auto" turns it off, too, except for the TensorRT-LLM engine: there, the
    minimum is half of the memory that is free once the engine has loaded, but at most 0.25 GB.
    `devices` are the GPUs that are checked, numbered as in `nvidia-smi`; empty means those of
    CUDA_VISIBLE_DEVICES, else all.
    """

    enabled: bool = True
    interval: Annotated[float, Meta(ge=0.1, le=3600)] = 2.0
    min_free_memory_gb: Annotated[float, Meta(ge=0)] | Literal["auto"] = "auto"
    devices: list[Annotated[int, Meta(ge=0)]] = []


class LogSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The log on stderr. The `format` "auto" is "console" on a terminal and "json" elsewhere.
    `access` logs a line at the end of each request. `prompts` logs the body of every request."""

    level: LogLevel = "info"
    format: LogFormat = "auto"
    prompts: bool = False
    access: bool = True


class MetricsSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `/metrics`. `max_keys` is how many API keys get a label of their own; the
    others share the label "other". With 0, nothing is counted by key."""

    max_keys: Annotated[int, Meta(ge=0, le=10_000)] = 0


class OtelSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """OpenTelemetry traces. `endpoint` is a collector's base URL for OTLP over HTTP; empty turns
    traces off. `sample_ratio` is the share of requests that are traced, 0 to 1. A request that
    belongs to a client's trace follows the client's decision instead."""

    endpoint: str = ""
    service_name: Annotated[str, Meta(min_length=1)] = "lockgate"
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """All settings, one section for each field."""

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    model: ModelSettings = ModelSettings()
    engine: EngineConfig = EngineConfig()
    gpu: GpuSettings = GpuSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    otel: OtelSettings = OtelSettings()
    models: dict[Annotated[str, Meta(min_length=1)], NamedModelSettings] = {}
    loading: LoadingSettings = LoadingSettings()
    store: StoreSettings = StoreSettings()
    prices: dict[Annotated[str, Meta(min_length=1)], PriceSettings] = {}

    @property
    def aliases(self) -> dict[str, str]:
        """Those of all models. Raises SetupError for one that means two of them."""
        found = dict(self.model.aliases)
        for model in self.models.values():
            for alias, name in model.aliases.items():
                if found.setdefault(alias, name) != name:
                    raise SetupError(f"aliases: {alias!r} is an alias of two models; name another")
        return found
