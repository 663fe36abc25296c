"""The server's health: one word, and the reasons. Pure."""

from typing import Literal

from msgspec import Struct

from runtime.client.handle import EngineHandle
from runtime.messages.loading import LoadPhase

HealthState = Literal["starting", "ready", "degraded", "restarting", "failed", "unloaded"]

RECENT_SECONDS = 300.0
"""For this long after an engine's death the server is degraded: it works, but needs a look."""

NEARLY_FULL = 0.9
"""Share of all places, running and waiting, above which the queue is nearly full."""

STALL_SECONDS = 10.0
"""Longest time without a step of an engine that has work: three times its longest step."""


class Progress(Struct, frozen=True, kw_only=True):
    """Whether the engine gets on. `seconds_since_step` is null before the first word of an engine;
    an idle one says something twice a second. `num_tokens` counts those that the running engine
    process has handed out, `num_deaths` the engine processes that have died."""

    seconds_since_step: float | None
    num_tokens: int
    num_running: int
    num_waiting: int
    num_deaths: int


class Loading(Struct, frozen=True, kw_only=True):
    """What an engine that starts waits for. `phase_seconds` were spent in this phase, `seconds`
    since its start, and `seconds_since_sign` since it last showed that it works. `fraction` is the
    share of the phase that is done, 0 to 1, null if nobody knows."""

    phase: LoadPhase
    fraction: float | None
    phase_seconds: float
    seconds: float
    seconds_since_sign: float


def loading_of(engine: EngineHandle, now: float) -> Loading | None:
    """What the engine's start waits for at the time `now`; None when no engine starts."""
    load = engine.load
    if load is None:
        return None
    return Loading(
        phase=load.phase,
        fraction=None if load.fraction is None else round(load.fraction, 3),
        phase_seconds=round(now - load.since, 3),
        seconds=round(now - load.started, 3),
        seconds_since_sign=round(now - load.last_sign, 3),
    )


def progress_of(engine: EngineHandle, now: float) -> Progress:
    """The engine's progress at the time `now` of the monotonic clock."""
    seconds = round(now - engine.last_step_time, 3) if engine.last_step_time else None
    return Progress(
        seconds_since_step=seconds,
        num_tokens=engine.num_tokens,
        num_running=engine.stats.num_running,
        num_waiting=engine.stats.num_waiting,
        num_deaths=engine.num_deaths,
    )


def problems_of(engine: EngineHandle, pressure: str, now: float) -> list[str]:
    """The reasons why a ready server is degraded, one sentence each; empty if there are none.
    `pressure` is the GPU memory guard's report, empty if it reports nothing."""
    problems = []
    if engine.num_deaths and now - engine.last_death_time < RECENT_SECONDS:
        ago = now - engine.last_death_time
        problems.append(f"The engine died {ago:.0f} s ago and was restarted.")
    if engine.is_searching:
        problems.append("A request that kills the engine is being searched for; others wait.")
    if pressure:
        problems.append(pressure)
    if engine.limits is not None:
        places = engine.limits.max_num_seqs + engine.limits.max_num_waiting
        if engine.num_in_flight >= NEARLY_FULL * places:
            problems.append(f"{engine.num_in_flight} of {places} places are taken.")
    silence = now - engine.last_step_time
    if engine.num_in_flight and silence > STALL_SECONDS:
        problems.append(f"The engine has finished no step for {silence:.0f} s.")
    return problems


def state_of(engine: EngineHandle, has_tokenizer: bool, problems: list[str]) -> HealthState:
    """The server is starting until engine and tokenizer are ready. A ready server with `problems`
    is degraded."""
    if engine.state == "ready":
        if not has_tokenizer:
            return "starting"
        return "degraded" if problems else "ready"
    return engine.state
