"""Metrics that the gateway does not count: they are read from their sources on each scrape.

A metric of this kind is one entry of the tables below.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeAlias, TypeVar, get_args

from msgspec import Struct

from gateway.bounds.bounds import Bounds
from gateway.observability.metrics.instrument import MODEL, Family, Kind, Sample
from gateway.observability.metrics.model import ModelMetrics
from gateway.observability.metrics.processes import ProcessUsage
from runtime.client.handle import EngineHandle, EngineState
from runtime.version import __version__

S = TypeVar("S")


class Reading(Struct, Generic[S], frozen=True):
    """A family, and how its samples are read from their source."""

    family: Family
    samples: Callable[[S], Iterable[Sample]]


class ModelSource(Struct, frozen=True):
    """A served model: its name, its engine, its counters."""

    name: str
    client: EngineHandle
    metrics: ModelMetrics


Processes: TypeAlias = Mapping[str, ProcessUsage]
"""Usage by "gateway" and "engine"."""


def _value(
    kind: Kind, name: str, documentation: str, read: Callable[[ModelSource], float]
) -> Reading[ModelSource]:
    return Reading(Family(name, kind, documentation), lambda model: [((), read(model))])


def _value_by(
    kind: Kind,
    name: str,
    documentation: str,
    label: str,
    read: Callable[[ModelSource], Mapping[str, float]],
) -> Reading[ModelSource]:
    family = Family(name, kind, documentation, (*MODEL, label))
    return Reading(family, lambda model: [((key,), n) for key, n in read(model).items()])


def _of_processes(
    kind: Kind, name: str, documentation: str, read: Callable[[ProcessUsage], float]
) -> Reading[Processes]:
    return Reading(
        Family(name, kind, documentation, ("process",)),
        lambda processes: [((process,), read(usage)) for process, usage in processes.items()],
    )


def _of_bounds(
    kind: Kind, name: str, documentation: str, read: Callable[[Bounds], float]
) -> Reading[Bounds]:
    return Reading(Family(name, kind, documentation, ()), lambda bounds: [((), read(bounds))])


def _engine_info(model: ModelSource) -> list[Sample]:
    info = model.client.info
    return [] if info is None else [((info.engine, info.version, info.device), 1)]


def _waiting(model: ModelSource) -> dict[str, float]:
    stats = model.client.stats
    return {
        "capacity": stats.num_waiting - stats.num_waiting_preempted,
        "preempted": stats.num_waiting_preempted,
        "grammar": stats.num_preparing,
    }


OF_MODELS: tuple[Reading[ModelSource], ...] = (
    Reading(
        Family(
            "lockgate_engine",
            "info",
            "Which engine serves the model; absent until one was ready.",
            (*MODEL, "engine", "version", "device"),
        ),
        _engine_info,
    ),
    _value(
        "gauge",
        "lockgate_num_requests_running",
        "Sequences in the engine's batch.",
        lambda model: model.client.stats.num_running,
    ),
    _value(
        "gauge",
        "lockgate_num_requests_waiting",
        "Sequences that wait for the engine, for any reason.",
        lambda model: model.client.stats.num_waiting + model.client.stats.num_preparing,
    ),
    _value(
        "gauge",
        "lockgate_num_requests_in_flight",
        "Sequences submitted and not finished.",
        lambda model: model.client.num_in_flight,
    ),
    _value(
        "gauge",
        "lockgate_kv_cache_usage_perc",
        "Share of KV cells in use, 0 to 1.",
        lambda model: model.client.stats.usage.kv_cache_usage,
    ),
    _value(
        "gauge",
        "lockgate_prefix_cache_usage_perc",
        "Share of the memory for idle prefixes in use, 0 to 1.",
        lambda model: model.client.stats.usage.prefix_cache_usage,
    ),
    _value(
        "gauge",
        "lockgate_prefix_cache_disk_bytes",
        "Size of the prefixes on disk, of all models in the folder.",
        lambda model: model.client.stats.usage.disk.num_bytes,
    ),
    _value(
        "gauge",
        "lockgate_engine_ready",
        "1 when requests are taken.",
        lambda model: model.client.state == "ready",
    ),
    _value(
        "gauge",
        "lockgate_engine_loading_seconds",
        "Seconds since the start of the engine that loads; 0 when none does.",
        lambda model: time.monotonic() - model.client.load.started if model.client.load else 0,
    ),
    _value(
        "gauge",
        "lockgate_engine_loading_silent_seconds",
        "Seconds since the engine that loads last showed that it works; 0 when none loads.",
        lambda model: time.monotonic() - model.client.load.last_sign if model.client.load else 0,
    ),
    _value(
        "gauge",
        "lockgate_max_num_seqs",
        "Most sequences in a batch.",
        lambda model: model.client.limits.max_num_seqs if model.client.limits else 0,
    ),
    _value(
        "gauge",
        "lockgate_max_num_waiting",
        "Most sequences that may wait; more are refused.",
        lambda model: model.client.limits.max_num_waiting if model.client.limits else 0,
    ),
    _value(
        "gauge",
        "lockgate_kv_cache_tokens",
        "Tokens that the KV cache holds; 0 where nobody says.",
        lambda model: model.client.limits.num_kv_tokens if model.client.limits else 0,
    ),
    _value_by(
        "gauge",
        "lockgate_engine_state",
        "1 for the state that the engine is in.",
        "state",
        lambda model: {state: model.client.state == state for state in get_args(EngineState)},
    ),
    _value_by(
        "gauge",
        "lockgate_num_requests_waiting_by_reason",
        "Sequences that wait: for room, for room again, for their grammar.",
        "reason",
        _waiting,
    ),
    _value_by(
        "gauge",
        "lockgate_num_grammars",
        "Grammars that are compiled now, and that wait for it.",
        "state",
        lambda model: {
            "compiling": model.client.stats.usage.num_compiling,
            "waiting": model.client.stats.usage.num_to_compile,
        },
    ),
    _value(
        "counter",
        "lockgate_engine_restarts",
        "Engines that were lost and followed by another one.",
        lambda model: model.client.num_restarts,
    ),
    _value_by(
        "counter",
        "lockgate_requests_resumed",
        "Sequences that went on: after they had given way, or in a new engine.",
        "reason",
        lambda model: {
            "preempted": model.metrics.engine.num_resumed,
            "engine_restarted": model.client.num_resumed,
        },
    ),
)
"""What is read from each served model. The exposition adds the model's name."""

OF_PROCESSES: tuple[Reading[Processes], ...] = (
    Reading(
        Family("lockgate_build", "info", "What is running.", ("version",)),
        lambda _: [((__version__,), 1)],
    ),
    _of_processes(
        "counter",
        "lockgate_process_cpu_seconds",
        "CPU time of the gateway, or of the engine and all that it has started.",
        lambda usage: usage.cpu_seconds,
    ),
    _of_processes(
        "gauge",
        "lockgate_process_resident_memory_bytes",
        "Resident memory of the gateway, or of the engine and all that it has started.",
        lambda usage: usage.memory_bytes,
    ),
)
"""What is read from the server's processes, and the version that they run."""

OF_BOUNDS: tuple[Reading[Bounds], ...] = (
    _of_bounds(
        "gauge",
        "lockgate_event_loop_lag_seconds",
        "Longest time that the event loop was held, of the last one to two minutes.",
        lambda bounds: bounds.lag.longest,
    ),
    _of_bounds(
        "gauge",
        "lockgate_event_loop_work_seconds",
        "CPU time of the event loop's own thread in such a lag, at most.",
        lambda bounds: bounds.lag.longest_work,
    ),
    _of_bounds(
        "gauge",
        "lockgate_num_large_requests_running",
        "Large requests that a thread decodes, renders or tokenizes.",
        lambda bounds: bounds.pool.num_running,
    ),
    _of_bounds(
        "gauge",
        "lockgate_num_large_requests_waiting",
        "Large requests that wait for such a thread.",
        lambda bounds: bounds.pool.num_waiting,
    ),
    _of_bounds(
        "gauge",
        "lockgate_large_request_threads",
        "Threads for large requests.",
        lambda bounds: bounds.pool.num_threads,
    ),
    _of_bounds(
        "counter",
        "lockgate_large_requests_refused",
        "Large requests that were refused because too many waited.",
        lambda bounds: bounds.pool.num_refused,
    ),
    _of_bounds(
        "gauge",
        "lockgate_body_memory_bytes",
        "Bytes of the large bodies in hand.",
        lambda bounds: bounds.body_memory.num_bytes,
    ),
    _of_bounds(
        "gauge",
        "lockgate_body_memory_max_bytes",
        "Most bytes of large bodies in hand; bodies past them are refused.",
        lambda bounds: bounds.body_memory.max_bytes,
    ),
    _of_bounds(
        "counter",
        "lockgate_bodies_refused",
        "Large bodies that were refused before they were read.",
        lambda bounds: bounds.body_memory.num_refused,
    ),
)
"""What is read from the bounds on what requests may cost the gateway."""
