"""A start tells what it waits for, and one that hangs is told from one that is slow."""

import os
import signal

import psutil
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from runtime.client.engine_client import EngineClient
from runtime.client.load_state import LoadState
from runtime.errors import EngineUnavailable
from runtime.supervisor import engine_run, load_watch
from runtime.supervisor.load_watch import BUSY_FACTOR, LoadWatch
from runtime.supervisor.signs_of_life import MIN_BYTES, MIN_GPU_BYTES, Signs, read_signs
from runtime.supervisor.supervisor import Supervisor
from tests.kit.supervised import config, engine_processes, request, until

TIMEOUT = 100.0


class Clock:
    """Stands still until somebody sets it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(load_watch, "time", clock)
    return clock


def signs(clock: Clock, **values: object) -> Signs:
    plain = {"pids": frozenset({1}), "cpu_seconds": 0.0, "num_bytes": 0}
    return Signs(time=clock.now, **plain | values)  # type: ignore[arg-type]


LIFE = {
    "bytes": {"num_bytes": MIN_BYTES},
    "a line": {"num_lines": 1},
    "a process": {"pids": frozenset({1, 2})},
    "GPU memory": {"gpu_bytes": MIN_GPU_BYTES},
    "GPU memory is freed": {"gpu_bytes": -MIN_GPU_BYTES},
}
NO_LIFE = {
    "nothing": {},
    "few bytes": {"num_bytes": MIN_BYTES - 1},
    "little work": {"cpu_seconds": 0.04 * 90},
    "little GPU memory": {"gpu_bytes": MIN_GPU_BYTES - 1},
}


@pytest.mark.parametrize("values", LIFE.values(), ids=LIFE)
def test_whatever_moves_is_life(clock: Clock, values: dict[str, object]) -> None:
    assert _is_given_up_after_one_sign(clock, values) is False


@pytest.mark.parametrize("values", NO_LIFE.values(), ids=NO_LIFE)
def test_what_an_idle_process_does_is_none(clock: Clock, values: dict[str, object]) -> None:
    assert _is_given_up_after_one_sign(clock, values) is True


def _is_given_up_after_one_sign(clock: Clock, values: dict[str, object]) -> bool:
    watch = LoadWatch(TIMEOUT, lambda _: None)
    watch.on_signs(signs(clock))
    clock.now += 90
    watch.on_signs(signs(clock, **values))
    clock.now += 20
    return watch.why_given_up() is not None


def test_a_phase_is_life_and_the_reason_names_it(clock: Clock) -> None:
    watch = LoadWatch(TIMEOUT, lambda _: None)
    clock.now += 90
    watch.on_phase("weights", 0.421)
    clock.now += TIMEOUT
    assert watch.why_given_up() is None
    clock.now += 1
    assert watch.why_given_up() == (
        "The engine gave no sign of life for 100 seconds."
        " The weights are read (42%), for 101 s now."
    )


def test_work_alone_is_not_believed_for_ever(clock: Clock) -> None:
    watch = LoadWatch(TIMEOUT, lambda _: None)
    seconds = 0.0
    while watch.why_given_up() is None:
        seconds += 2
        clock.now += 2
        watch.on_signs(signs(clock, cpu_seconds=seconds))
    assert BUSY_FACTOR * TIMEOUT < seconds <= BUSY_FACTOR * TIMEOUT + 4
    assert "nothing but compute" in str(watch.why_given_up())


def test_a_long_start_is_logged_seldom_and_a_short_one_never(clock: Clock) -> None:
    with structlog.testing.capture_logs() as lines:
        watch = LoadWatch(TIMEOUT, lambda _: None)
        for phase in ("tokenizer", "library", "weights"):
            watch.on_phase(phase, None)
            watch.on_signs(signs(clock))
            clock.now += 1
        assert lines == []
        for second in range(120):
            watch.on_phase("weights", second / 120)
            watch.on_signs(signs(clock))
            clock.now += 1
    assert [line["event"] for line in lines] == ["engine_loading"] * 4
    assert [line["phase_seconds"] for line in lines] == [2.0, 32.0, 62.0, 92.0]
    assert [line["percent"] for line in lines] == [1, 26, 51, 76]


@given(
    st.floats(0, 1) | st.none(),
    st.floats(0, 10_000),
    st.floats(0, 10_000),
)
def test_a_state_is_told_in_one_sentence_or_two(
    fraction: float | None, age: float, silence: float
) -> None:
    state = LoadState(
        phase="warm_up",
        started=0.0,
        since=10_000 - age,
        last_sign=10_000 - silence,
        timeout=600.0,
        fraction=fraction,
    )
    told = state.sentence(10_000)
    assert told.endswith(".")
    assert ("%" in told) == (fraction is not None)
    assert ("no sign of life" in told) == (silence >= 30)


def test_the_signs_of_this_very_process() -> None:
    own = read_signs(os.getpid(), 1.0)
    assert os.getpid() in own.pids
    assert own.cpu_seconds > 0
    assert own.num_bytes > 0 or not hasattr(psutil.Process(), "io_counters")


def test_a_process_that_is_gone_has_none() -> None:
    assert read_signs(2**22 + 1, 1.0).pids == frozenset()


@pytest.mark.anyio
async def test_a_start_tells_its_phase_and_progress() -> None:
    supervisor = Supervisor(config(scripted={"load_ms": 20_000}), "", EngineClient())
    await supervisor.start()
    client = supervisor.client
    try:
        await until(lambda: client.load is not None and bool(client.load.fraction))
        assert client.load is not None
        assert client.load.phase == "weights"
        with pytest.raises(EngineUnavailable, match=r"The weights are read \(\d+%\), for \d+ s"):
            client.submit([request()])
    finally:
        await supervisor.stop()
    assert client.load is None


@pytest.mark.anyio
@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="POSIX signals")
async def test_a_start_that_hangs_is_given_up_and_says_where(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_run, "SIGN_SECONDS", 0.1)
    settings = {"scripted": {"load_ms": 200_000}, "start_timeout": 1.5}
    supervisor = Supervisor(config(**settings), "", EngineClient())
    await supervisor.start()
    client = supervisor.client
    try:
        await until(lambda: client.load is not None and client.load.phase == "weights")
        [process] = engine_processes()
        process.send_signal(signal.SIGSTOP)
        await until(lambda: client.state == "failed")
        assert "gave no sign of life" in client.state_reason
        assert "The weights are read" in client.state_reason
        await until(lambda: not process.is_running())
    finally:
        await supervisor.stop()
