"""Reads settings, keys and certificates again, checks all, and then puts all into effect."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog
from msgspec import Struct, to_builtins

from gateway.reload.effects import Effect, differences, effect_between, effect_of, taken_over
from gateway.reload.part import Change, Part
from gateway.settings.live import LiveSettings
from gateway.settings.loader import check_together
from gateway.settings.schema import Settings
from runtime.errors import SetupError

log = structlog.get_logger(__name__)


class ReloadReport(Struct, frozen=True, kw_only=True):
    """What a reload has done. `applied` holds from now on: settings, keys as `keys.NAME`, and a
    certificate whose file has changed. With `errors` nothing has changed but keys, if their own
    file is right. `restarts_engine` says whether the engine process is being replaced."""

    applied: tuple[str, ...] = ()
    needs_engine_restart: tuple[str, ...] = ()
    needs_server_restart: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    restarts_engine: bool = False

    @property
    def needs(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What waits for a restart, of the engine and of the server."""
        return self.needs_engine_restart, self.needs_server_restart


class Engine(Protocol):
    """The engine, as far as settings concern it. `use` hands over those that hold. `restart`
    replaces the process, or starts one. `replace` replaces it by one with other settings, and takes
    them back if they are of no use; it returns whether there was one."""

    def use(self, settings: Settings) -> object: ...

    def restart(self) -> object: ...

    def replace(self, settings: Settings) -> bool: ...


class _Plan(Struct, frozen=True, kw_only=True):
    """A reload whose settings are checked. Of the settings of the source, `settled` are those that
    hold then, `waiting` those that the next engine gets. `current` is `settled` in the form that
    the server uses. `paths` are the changes, by their effect."""

    settled: Settings
    waiting: Settings
    current: Settings
    changes: tuple[Change, ...]
    paths: Mapping[Effect, tuple[str, ...]]
    replaces_engine: bool


class Reloader:
    """The one who changes the current settings. Several reloads at once take their turns.

    `load` reads the settings anew. `settled` are those of the last reading, as far as they hold;
    `complete` fills in what the server decides itself. `keys` is the part that reads the keys: they
    change even if something else is wrong, so that no mistake elsewhere keeps a revoked key valid.
    """

    def __init__(
        self,
        live: LiveSettings,
        load: Callable[[], Settings],
        settled: Settings,
        *,
        complete: Callable[[Settings], Settings],
        engine: Engine,
        parts: Iterable[Part] = (),
        keys: Part | None = None,
    ) -> None:
        self._live = live
        self._load = load
        self._settled = settled
        self._complete = complete
        self._engine = engine
        self._keys = keys
        self._parts = [*parts, *([] if keys is None else [keys])]
        self._checks: list[Callable[[Settings], object]] = []
        self._waiting: Settings | None = None
        self._former: Settings = settled
        self._lock = asyncio.Lock()
        self._said: dict[Part | None, ReloadReport] = {}

    def add(self, *parts: Part) -> None:
        """Adds parts that changed settings concern."""
        self._parts += parts

    def add_check(self, check: Callable[[Settings], object]) -> None:
        """Adds what raises SetupError for settings that the next engine could not use."""
        self._checks.append(check)

    async def reload(self, *, restart_engine: bool = False) -> ReloadReport:
        """Reads everything anew. With `restart_engine` the engine process is replaced if a change
        needs that; requests in flight continue on the next one."""
        async with self._lock:
            try:
                plan = await self._plan(restart_engine)
            except _Mistakes as mistakes:
                report = ReloadReport(errors=mistakes.errors, applied=await self._keys_alone())
            else:
                report = self._carried_out(plan)
        self._say(report)
        return report

    async def _keys_alone(self) -> tuple[str, ...]:
        """Takes up the keys under the settings that hold. Returns the names of what has changed;
        a mistake in their file is among those that are reported already."""
        if self._keys is None:
            return ()
        try:
            change = await asyncio.to_thread(self._keys, self._live.current)
        except SetupError:
            return ()
        change.apply()
        return change.names

    async def reload_keys(self) -> ReloadReport:
        """Reads the keys anew; the settings stay."""
        part = self._keys
        assert part is not None, "a server that watches a file of keys reads them"
        async with self._lock:
            try:
                change = await asyncio.to_thread(part, self._live.current)
            except SetupError as error:
                report = ReloadReport(errors=(str(error),))
            else:
                change.apply()
                report = ReloadReport(applied=change.names)
        self._say(report, of=part)
        return report

    def restart_engine(self) -> None:
        """Replaces the engine process. The next one has the settings that waited for it."""
        waiting = self._waiting
        if waiting is None or not self._replace_engine(waiting, self._completed(waiting)):
            self._engine.restart()

    def engine_refused(self, reason: str) -> None:
        """The engine could not load with the settings that it was replaced for. The former ones
        hold again, and the others wait as before."""
        waiting = self._settled
        paths = [p for p in differences(self._former, waiting) if effect_of(p) == "engine"]
        settled = taken_over(waiting, self._former, paths)
        self._hold(settled, self._completed(settled))
        self._engine.use(self._live.current)
        self._waiting = waiting
        log.error("engine_settings_wait", settings=paths, reason=reason)

    async def _plan(self, restart_engine: bool) -> _Plan:
        """A plan that begins with the settings that hold now. Raises _Mistakes."""
        while True:
            before = self._settled
            plan = await asyncio.to_thread(self._planned, restart_engine)
            if self._settled is before:  # the engine has not refused its settings meanwhile
                return plan

    def _planned(self, restart_engine: bool) -> _Plan:
        """Reads and checks everything, in a thread. Raises _Mistakes."""
        try:
            wanted = self._load()
            paths = self._paths(wanted)
            settled = taken_over(self._settled, wanted, paths["live"])
            waiting = taken_over(settled, wanted, paths["engine"])
            check_together(settled)
            check_together(waiting)
        except SetupError as error:
            raise _Mistakes(str(error)) from error
        settled = waiting if restart_engine else settled
        current = self._completed(settled)
        return _Plan(
            settled=settled,
            waiting=waiting,
            current=current,
            changes=self._prepared(current, self._completed(waiting)),
            paths=paths,
            replaces_engine=restart_engine and bool(paths["engine"]),
        )

    def _paths(self, wanted: Settings) -> Mapping[Effect, tuple[str, ...]]:
        paths: dict[Effect, tuple[str, ...]] = {"live": (), "engine": (), "server": ()}
        for path in differences(self._settled, wanted):
            paths[effect_between(path, self._settled, wanted)] += (path,)
        return paths

    def _completed(self, settled: Settings) -> Settings:
        """The current settings with what has changed in those of the source."""
        paths = differences(self._settled, settled)
        return self._complete(taken_over(self._live.current, settled, paths))

    def _prepared(self, current: Settings, waiting: Settings) -> tuple[Change, ...]:
        """What each part has to change. Raises _Mistakes with those of all parts."""
        changes, errors = [], []
        for part in self._parts:
            try:
                changes.append(part(current))
            except SetupError as error:
                errors.append(str(error))
        for check in self._checks:
            try:
                check(waiting)
            except SetupError as error:
                errors.append(str(error))
        if errors:
            raise _Mistakes(*errors)
        return tuple(changes)

    def _carried_out(self, plan: _Plan) -> ReloadReport:
        """Puts a plan into effect, without a pause in which a request could see half of it."""
        restarts = False
        if plan.replaces_engine:
            restarts = self._replace_engine(plan.settled, plan.current)
        else:
            self._hold(plan.settled, plan.current)
            self._engine.use(plan.current)
            self._waiting = plan.waiting if plan.paths["engine"] else None
        for change in plan.changes:
            change.apply()
        engine = plan.paths["engine"]
        names = (name for change in plan.changes for name in change.names)
        now = (*plan.paths["live"], *(engine if plan.replaces_engine else ()), *names)
        return ReloadReport(
            applied=tuple(dict.fromkeys(now)),
            needs_engine_restart=() if plan.replaces_engine else engine,
            needs_server_restart=plan.paths["server"],
            restarts_engine=restarts,
        )

    def _hold(self, settled: Settings, current: Settings) -> None:
        self._settled, self._live.current, self._waiting = settled, current, None

    def _replace_engine(self, settled: Settings, current: Settings) -> bool:
        self._former = self._settled
        self._hold(settled, current)
        return self._engine.replace(current)

    def _say(self, report: ReloadReport, of: Part | None = None) -> None:
        """Logs what is new since the last report, which was about the same part or about all. A
        file that stays wrong is reported once."""
        last = self._said.get(of, ReloadReport())
        is_mended = bool(last.errors) and not report.errors
        if report.errors and report.errors != last.errors:
            log.error("reload_refused", errors=report.errors)
        elif report.applied or is_mended or report.needs != last.needs:
            log.info("reloaded", **{k: v for k, v in to_builtins(report).items() if v})
        self._said[of] = report


class _Mistakes(Exception):
    """Why nothing changes, each as a sentence."""

    def __init__(self, *errors: str) -> None:
        super().__init__(*errors)
        self.errors = errors
