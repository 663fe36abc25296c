"""Life of the engine process: start it, watch it, start it again."""

import asyncio
import contextlib
import time
from collections.abc import Callable

import structlog
import zmq

from runtime.client.engine_client import EngineClient
from runtime.client.handle import EngineState
from runtime.client.load_state import LoadState
from runtime.config.engine import EngineConfig
from runtime.config.worker import CAUTION, cautious
from runtime.errors import ModelFileError
from runtime.messages.wire import FromEngine, Ready
from runtime.models.integrity.guard import WeightsGuard
from runtime.supervisor.engine_output import EngineOutput
from runtime.supervisor.engine_run import EngineRun
from runtime.supervisor.lessons import Lessons, situation_of
from runtime.supervisor.restart_budget import RestartBudget
from runtime.supervisor.run_folder import clear_stale_folders

log = structlog.get_logger(__name__)


WATCH_SECONDS = 2.0
"""How often the file of the weights is looked at while an engine runs."""


class Supervisor:
    """Keeps one engine process alive and its `client` connected.

    Every process gets its own socket, so that a message of a dead engine is never taken for one of
    the next engine. After `max_restarts` restarts within `restart_window` seconds the client's
    state is "failed". Then one start is tried every `failed_retry_interval` seconds, and at once
    when `restart` is called. While the `guard` finds that the model's file is not what it has to
    be, no engine runs. `lessons` say which settings an engine died of at an earlier start. `output`
    gets what the processes write; without it they share this process's standard streams.
    `gpu_bytes` reads the memory in use on all GPUs, whose change shows that an engine loads. With
    `gives_up` a first engine that cannot load is not tried again. `on_refused` is told why the
    settings of `restart_with` are given up again.
    """

    def __init__(
        self,
        config: EngineConfig,
        model_path: str,
        client: EngineClient,
        on_event: Callable[[FromEngine], None] | None = None,
        output: EngineOutput | None = None,
        guard: WeightsGuard | None = None,
        lessons: Lessons | None = None,
        gpu_bytes: Callable[[], int] = int,
        *,
        gives_up: bool = False,
    ) -> None:
        self.client = client
        self.on_refused: Callable[[str], object] | None = None
        self._former: EngineConfig | None = None
        self._is_cautious = False
        self._gives_up = gives_up
        self._guard = guard
        self._lessons = lessons
        self._lesson = ""
        self._config = config
        self._model_path = model_path
        self._on_event = on_event
        self._output = output
        self._gpu_bytes = gpu_bytes
        self._has_served = False
        self._budget = RestartBudget(config.max_restarts, config.restart_window)
        self._run: EngineRun | None = None
        self._no_pause = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to keep an engine running. Returns at once: loading goes on in its process."""
        assert self._task is None, "supervisor started twice: this is a bug"
        self._begin()

    async def stop(
        self, state: EngineState = "failed", reason: str = "The server has stopped."
    ) -> None:
        """End the engine process and wait until it is gone. The client is then in this state."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = None
        if self._guard is not None:
            await asyncio.to_thread(self._guard.close)
        self.client.lost(state, reason)

    def abandon(self) -> None:
        """Kill the engine process and remove its files, without waiting for anything. May be called
        from any thread, as the last thing that this process does."""
        if (run := self._run) is not None:
            run.abandon()

    def restart(self) -> None:
        """Replace the engine process, or start one after the engine was given up.

        Requests in flight continue on the next engine, and none becomes a suspect. Earlier deaths
        are forgotten. Returns at once; the client's state shows the loading. The supervisor must be
        started and not stopped. A call between two engines makes the next one start at once.
        """
        assert self._task is not None, "restart of what was not started: this is a bug"
        self._budget.forgive()
        if self._guard is not None:
            self._guard.forget()
        if self.client.state == "failed":
            self.client.lost("starting", "The engine is starting again.")
        if self._task.done():
            self._begin()
        elif self._run is not None:
            self._run.end()
        else:
            self._no_pause.set()

    def use(self, config: EngineConfig) -> None:
        """Keep engines running by these settings: at once where the settings are about that, and
        from the next process on otherwise."""
        self._config = (cautious(config) or config) if self._is_cautious else config
        self._budget.max_restarts = config.max_restarts
        self._budget.window = config.restart_window
        self.client.max_num_waiting_tokens = config.max_num_waiting_tokens

    def restart_with(self, config: EngineConfig) -> None:
        """Replace the engine process by one with these settings, like `restart`. If it cannot load
        with them, the next one has the settings of the last that could."""
        if self.client.limits is not None and self._former is None:
            self._former = self._config
        self.use(config)
        self.restart()

    def _begin(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name="engine-supervisor")
        self._task.add_done_callback(self._note_end)

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        """Nobody waits for the task before `stop`, so its error would stay unknown until then."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("supervisor_failed", exc_info=error)
            reason = f"The engine's supervisor has failed: {type(error).__name__}: {error}"
            self.client.lost("failed", reason)

    async def _keep_running(self) -> None:
        await asyncio.to_thread(clear_stale_folders)
        await asyncio.to_thread(self._recall)
        while (pause := await self._one_engine()) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._no_pause.wait()
            self._no_pause.clear()

    async def _one_engine(self) -> float | None:
        """Run one engine until it ends. Returns the pause before the next, or None to stop."""
        try:
            await self._check_weights()
        except ModelFileError as error:
            log.error("model_file_refused", reason=str(error))
            return self._give_up(str(error))
        run = self._run = self._next_run()
        reason = await self._follow(run)
        if run.was_asked_to_end:
            log.info("engine_restarts")
            self.client.lost("restarting", "The engine is being restarted.")
            return 0.0
        if run.died_loading and (config := cautious(self._config)) is not None:
            log.warning("engine_retries_without_extra_bufts", reason=reason)
            self._config, self._is_cautious = config, True
            self._lesson = reason if run.has_crashed else ""
            return 0.0
        if self._former is not None and not run.was_ready:
            return self._go_back(self._former, reason)
        return self._after_death(run, reason)

    def _next_run(self) -> EngineRun:
        return EngineRun(
            self._config,
            self._model_path,
            self.client,
            self._listen,
            self._output,
            self._gpu_bytes,
        )

    async def _follow(self, run: EngineRun) -> str:
        """Watch one engine until it ends. Returns the reason as a sentence, also of an error that
        nobody expected: an engine that nobody watches would never come back."""
        watch = asyncio.create_task(self._watch_weights(run), name="weights-watch")
        try:
            return await run.to_the_end()
        except (OSError, zmq.ZMQError) as error:
            return f"The engine process cannot be started: {error}"
        except Exception as error:
            log.exception("engine_not_watched")
            return f"The engine process cannot be watched: {type(error).__name__}: {error}"
        finally:
            self._run = None
            watch.cancel()
            await asyncio.wait([watch])

    def _go_back(self, former: EngineConfig, reason: str) -> float:
        """Have the settings again with which an engine could load."""
        log.error("engine_settings_refused", reason=reason)
        self._former = None
        self.use(former)
        self.client.lost("restarting", f"The engine restarts with its former settings: {reason}")
        if self.on_refused is not None:
            self.on_refused(reason)
        return 0.0

    def _listen(self, message: FromEngine) -> None:
        if isinstance(message, Ready):
            self._former = None
            if self._lesson:
                self._learn()
        if self._on_event is not None:
            self._on_event(message)

    def _recall(self) -> None:
        """Begin with the settings that an engine needed here before."""
        config = cautious(self._config)
        if self._lessons is None or config is None:
            return
        lesson = self._lessons.find(situation_of(self._config.name, self._model_path))
        if lesson is not None:
            log.info("engine_starts_without_extra_bufts", reason=lesson.reason, date=lesson.date)
            self._config, self._is_cautious = config, True

    def _learn(self) -> None:
        """The engine has loaded with other settings than those that the one before died of."""
        if self._lessons is not None:
            situation = situation_of(self._config.name, self._model_path)
            self._lessons.learn(situation, setting=CAUTION, reason=self._lesson)
        self._lesson = ""

    async def _check_weights(self) -> None:
        if self._guard is None:
            return
        now = time.monotonic()
        self.client.starts(
            LoadState(phase="model_file", started=now, since=now, last_sign=now, timeout=0.0)
        )
        await asyncio.to_thread(self._guard.check)

    async def _watch_weights(self, run: EngineRun) -> None:
        """End the engine when its weights are no longer those that it has loaded. The check before
        the next start says why there is none."""
        while self._guard is not None:
            await asyncio.sleep(WATCH_SECONDS)
            if problem := await asyncio.to_thread(self._guard.problem):
                log.error("model_file_changed", reason=problem)
                return run.end()

    def _after_death(self, run: "EngineRun", reason: str) -> float | None:
        now = time.monotonic()
        self.client.count_death(now)
        is_search = run.was_ready and self.client.is_searching
        pause = self._budget.death(now, is_search=is_search)
        log.error("engine_lost", reason=reason, is_search=is_search, pause=pause)
        self._has_served = self._has_served or run.was_ready
        is_vain = (run.hopeless or run.has_hung) and not self._has_served
        if pause is None or is_vain:
            return self._give_up(reason)
        working_on = run.working_on if run.was_ready else ()
        self.client.lost("restarting", f"The engine is restarting: {reason}", working_on)
        return pause

    def _give_up(self, reason: str) -> float | None:
        """Keep retrying at long intervals. The cause may pass, such as memory held by another
        program or a file being replaced, so the engine can return without an operator."""
        is_final = self._gives_up and not self._has_served
        interval = 0.0 if is_final else self._config.failed_retry_interval
        log.error("engine_failed", next_try=interval or None)
        if not interval:
            self.client.lost("failed", reason)
            return None
        next_try = f"Another start is tried every {interval:g} seconds."
        self.client.lost("failed", f"{reason.rstrip('.')}. {next_try}")
        return interval
