"""All responses in the background of one server."""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import structlog
from litestar.types import ASGIApp
from msgspec.structs import replace

from gateway.admission.owner import reader_of
from gateway.api.openai.responses.answers import FailureCode, Response, ResponseFailure
from gateway.api.openai.responses.background.holder import new_holder
from gateway.api.openai.responses.background.records import (
    CLAIM_SECONDS,
    Claim,
    Held,
    ask_to_cancel,
    begun,
    finished,
    release,
    renew,
    response_of,
    take_up,
)
from gateway.api.openai.responses.background.run import BackgroundRun
from gateway.api.openai.responses.stored.records import REQUEST, RESPONSE
from gateway.errors import GatewayOverloaded, StoreFull, StoreUnavailable
from gateway.http.context import AnyRequest
from gateway.http.inner.call import InnerCall
from gateway.store.store import Store

log = structlog.get_logger(__name__)

MAX_RUNS = 1000
"""Responses that wait or are made."""

FULL_RETRY_SECONDS = 30.0
RENEW_SECONDS = CLAIM_SECONDS / 3
MIN_PAUSE, MAX_PAUSE = 0.5, 30.0
"""Seconds between two attempts to have a response made, or to store its end."""

CANCEL_SECONDS = 10.0
"""Seconds in which the end of a cancelled response has to be stored."""

PATIENCE = 3600.0
"""Seconds for which a server that has no room for a response is asked again."""


class Background:
    """Makes responses one after the other, `max_running` at a time, and stores their ends. What a
    server that ends leaves, and one that died, is taken up by the next.

    `runs` has those that are not stored yet, by id. `models` are the names of the server's
    models, and `is_ending` says whether it is about to exit. Belongs to one event loop.
    """

    def __init__(
        self,
        store: Store,
        max_running: int,
        *,
        models: Callable[[], Collection[str]],
        is_ending: Callable[[], bool],
    ) -> None:
        self.runs: dict[str, BackgroundRun] = {}
        self._store = store
        self._models = models
        self._is_ending = is_ending
        self._turns = asyncio.Semaphore(max_running)
        self._holder = new_holder()
        self._tasks: set[asyncio.Task[None]] = set()
        self._app: ASGIApp | None = None

    def start(self, app: ASGIApp) -> None:
        """Begins, with what others have left. Requests go to `app`."""
        self._app = app
        self._spawn(self._watch_claims(), "background-claims")

    async def stop(self) -> None:
        """Ends without finishing anything, so that the next server can go on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.runs:
            await self._store.write(release(list(self.runs)))

    async def accept(
        self, queued: Response, owner: str, items: bytes, request: bytes, *, keeps_events: bool
    ) -> BackgroundRun:
        """Begins a response, once it is stored. Raises GatewayOverloaded if too many wait, and what
        the store raises."""
        if len(self.runs) >= MAX_RUNS:
            raise GatewayOverloaded(
                f"{MAX_RUNS} responses wait in the background, and there is no room for more.",
                retry_after=FULL_RETRY_SECONDS,
            )
        claim = Claim(
            holder=self._holder,
            model=queued.model,
            ends=time.time() + CLAIM_SECONDS,
            keeps_events=keeps_events,
        )
        run = self._add(queued, owner, keeps_events=keeps_events)
        try:
            await self._store.put(*begun(queued, owner, items, request, claim))
        except BaseException:
            del self.runs[run.id]
            raise
        self._spawn(self._make(run), run.id)
        return run

    def find(self, response_id: str, reader: str | None) -> BackgroundRun | None:
        """The run of this response, if it is not stored yet and this reader may see it."""
        run = self.runs.get(response_id)
        return run if run is not None and reader in (None, run.owner) else None

    async def cancel(self, run: BackgroundRun) -> None:
        """Ends a response with what there is of it, and returns when that is stored. Raises
        StoreUnavailable if that takes too long; it will be stored then when it can be."""
        run.cancel()
        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                await run.is_stored.wait()
        except TimeoutError as error:
            raise StoreUnavailable(
                "The response has ended, but that could not be stored yet. Send the request again."
            ) from error

    async def ask_to_cancel(self, response_id: str, reader: str | None) -> bool:
        """Has another server cancel this response. False if none is working on it."""
        return await self._store.write(ask_to_cancel(response_id, reader))

    def _add(self, queued: Response, owner: str, *, keeps_events: bool) -> BackgroundRun:
        run = BackgroundRun(queued, owner, self._ended, keeps_events=keeps_events)
        self.runs[run.id] = run
        return run

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _make(self, run: BackgroundRun) -> None:
        async with self._turns:
            record = await self._store.get(REQUEST, run.id, None)
            if record is None:
                run.forget()
                return
            try:
                await self._ask_for(run, record.body)
            except Exception:
                log.exception("background_response_failed", response_id=run.id)
                run.finish(_failed(run, "server_error", "The server failed to make the response."))

    async def _ask_for(self, run: BackgroundRun, request: bytes) -> None:
        """Asks the server for the response until it is made, or cannot be."""
        assert self._app is not None, "started before anything is accepted"
        began, pause = time.monotonic(), MIN_PAUSE
        while not run.has_ended():
            call = run.call()
            await call.run(self._app, request)
            if run.has_ended() or self._is_ending():
                return
            if not call.may_retry or time.monotonic() - began > PATIENCE:
                run.finish(_refused(run, call))
            await run.until_ended(max(pause, min(call.retry_after, MAX_PAUSE)))
            pause = min(pause * 2, MAX_PAUSE)

    def _ended(self, run: BackgroundRun) -> None:
        self._spawn(self._keep(run), f"{run.id}-end")

    async def _keep(self, run: BackgroundRun) -> None:
        """Stores the end of a response, as soon as that is possible."""
        assert run.end is not None, "called at its end"
        events, conversation = b"".join(run.events), run.conversation
        added = None if conversation is None else conversation.addition(run.end)
        change = finished(run.end, run.owner, events, added)
        while not run.is_forgotten:
            try:
                await self._store.write(change, len(events))
                break
            except (StoreFull, StoreUnavailable) as error:
                log.warning("response_waits_for_store", response_id=run.id, reason=str(error))
                await asyncio.sleep(MAX_PAUSE)
        self.runs.pop(run.id, None)
        run.is_stored.set()

    async def _watch_claims(self) -> None:
        while True:
            try:
                await self._renew()
                await self._take_up()
            except (StoreFull, StoreUnavailable) as error:
                log.warning("background_claims_not_renewed", reason=str(error))
            await asyncio.sleep(RENEW_SECONDS)

    async def _renew(self) -> None:
        """Ends what was deleted, cancelled or taken up elsewhere."""
        held = [run for run in self.runs.values() if run.end is None]
        if not held:
            return
        claims = await self._store.write(renew(self._holder, [run.id for run in held]))
        for run in held:
            claim = claims.get(run.id)
            if claim is None:
                run.forget()
            elif claim.is_cancelled:
                run.cancel()

    async def _take_up(self) -> None:
        room = MAX_RUNS - len(self.runs)
        for held in await self._store.write(take_up(self._holder, frozenset(self._models()), room)):
            record = await self._store.get(RESPONSE, held.record.id, None)
            if record is not None and record.id not in self.runs:
                self._go_on(held, response_of(record), record.owner)

    def _go_on(self, held: Held, queued: Response, owner: str) -> None:
        run = self._add(queued, owner, keeps_events=held.claim.keeps_events)
        log.info("background_response_taken_up", response_id=run.id)
        if held.claim.is_cancelled:
            run.cancel()
        else:
            self._spawn(self._make(run), run.id)


def background_of(request: AnyRequest) -> Background | None:
    """That of the server which received this request; None if it stores nothing."""
    found: Background | None = request.app.state.background
    return found


def run_of(request: AnyRequest, response_id: str) -> BackgroundRun | None:
    """The run of a response that this request may see, until that is stored."""
    background = background_of(request)
    return None if background is None else background.find(response_id, reader_of(request.scope))


def _refused(run: BackgroundRun, call: InnerCall) -> Response:
    error = call.error
    if call.status == 429:
        return _failed(run, "rate_limit_exceeded", error.message)
    return _failed(run, "invalid_prompt" if call.status < 500 else "server_error", error.message)


def _failed(run: BackgroundRun, code: FailureCode, message: str) -> Response:
    return replace(run.response, status="failed", error=ResponseFailure(code, message))
