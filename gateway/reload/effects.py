"""When a changed setting takes effect, and which settings differ. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from msgspec import Struct, structs

from gateway.settings.schema import Settings

Effect = Literal["live", "engine", "server"]
"""At once, with the next engine process, or with the next start of the server."""

T = TypeVar("T", bound=Struct)

_LIVE = """
    server.max_body_bytes server.max_bodies_bytes server.max_body_values server.max_body_entries
    server.drain_timeout server.keep_alive_interval server.keep_alive_timeout
    server.max_header_bytes server.header_timeout server.body_timeout server.write_timeout
    server.request_timeout server.allow_unauthenticated server.allowed_hosts
    server.cors_allow_origins server.tls_certificate server.tls_key server.watch_files
    auth.keys_file auth.monitoring
    model.aliases model.thinking_token_budget model.system_fingerprint model.is_matryoshka
    model.truncation
    engine.max_num_waiting_tokens engine.max_queue_seconds
    engine.max_restarts engine.restart_window engine.failed_retry_interval
    gpu.interval gpu.min_free_memory_gb gpu.devices
    log.level log.format log.prompts log.access
    metrics.max_keys
    store.responses store.chat_completions store.keep_days store.max_gb
    prices
"""
_ENGINE = """
    engine.max_model_len engine.max_num_seqs engine.max_num_waiting engine.max_num_batched_tokens
    engine.max_step_ms engine.num_kv_tokens engine.prefix_caching engine.prefix_cache_gb
    engine.prefix_cache_disk_gb engine.prefix_cache_disk_days engine.prefix_cache_folder
    engine.priority_ageing engine.preempt_after engine.start_timeout engine.heartbeat_timeout
    engine.llama_cpp engine.scripted engine.tensorrt_llm
"""
_SERVER = """
    server.host server.port
    model.name_or_path model.served_name model.folder model.mirrors model.tokenizer
    model.chat_template model.tool_dialect model.reasoning_parser model.thinking_budget_message
    model.offline model.prompts
    engine.name engine.tensorrt_llm.lora.adapters
    gpu.enabled
    models loading
    store.enabled store.path store.url store.max_background_running
    otel.endpoint otel.service_name otel.sample_ratio
"""
EFFECTS: Mapping[str, Effect] = {
    **dict.fromkeys(_LIVE.split(), "live"),
    **dict.fromkeys(_ENGINE.split(), "engine"),
    **dict.fromkeys(_SERVER.split(), "server"),
}
"""By setting, or by section for all of its settings that are not here themselves."""

_ON_OR_OFF = ("auth.keys_file", "server.tls_certificate")
"""Live from one file to another only. Whether there are keys, and TLS, is decided at the start: a
mistake in a file must not open a running server."""


def effect_of(path: str) -> Effect:
    """When a change of the setting takes effect. Of a setting that is not known here it is safe to
    say that the next start brings it."""
    while path not in EFFECTS and "." in path:
        path = path.rpartition(".")[0]
    return EFFECTS.get(path, "server")


def effect_between(path: str, old: Settings, new: Settings) -> Effect:
    """The same for one change. Several models each have settings of their own, which only a start
    hands out."""
    if path in _ON_OR_OFF and not (value_at(old, path) and value_at(new, path)):
        return "server"
    if path == "server.tls_key" and not (old.server.tls_certificate and new.server.tls_certificate):
        return "server"
    if new.models and path.partition(".")[0] in ("model", "engine") and path != "model.aliases":
        return "server"
    return effect_of(path)


def differences(old: Struct, new: Struct, prefix: str = "") -> Iterator[str]:
    """The settings whose values differ, such as "server.port"."""
    for field in structs.fields(old):
        before, after = getattr(old, field.name), getattr(new, field.name)
        path = f"{prefix}{field.name}"
        if isinstance(before, Struct) and type(before) is type(after):
            yield from differences(before, after, f"{path}.")
        elif before != after:
            yield path


def value_at(settings: Struct, path: str) -> Any:
    """The value of a setting."""
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def taken_over(settings: T, other: Struct, paths: Iterable[str]) -> T:
    """The settings with the values that `other` has at these paths."""
    for path in paths:
        settings = _replaced(settings, path.split("."), value_at(other, path))
    return settings


def _replaced(settings: T, path: list[str], value: Any) -> T:
    name, *rest = path
    if rest:
        value = _replaced(getattr(settings, name), rest, value)
    return structs.replace(settings, **{name: value})
