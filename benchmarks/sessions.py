"""Streams that know what they were answered: each session asks, reads, and asks again.

A session is a coroutine with a client of its own; all sessions of a load run at the same time. The
reply is taken apart after its end, as in `load`. Every request has a connection of its own, opened
before its time is taken, since there are servers that close theirs after a stream.
"""

import asyncio
import json
import math
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from wire import BadReply, RawReply, connect, new_event_loop, post, timed_events

PATH = "/v1/chat/completions"
MAX_SESSIONS = 1000

Message = dict[str, str]


@dataclass(frozen=True)
class Ask:
    """A chat request. `label` says what kind it is; `on_text` is called at its first text. Without
    `model` it is for the endpoint's own."""

    messages: Sequence[Message]
    max_tokens: int
    label: str = ""
    on_text: Callable[[], None] | None = None
    model: str = ""


@dataclass(frozen=True)
class Answer:
    """One good reply. Times are seconds on the clock of `perf_counter`; `event_times` are those of
    events with text. `session` is the number of the session that asked."""

    session: int
    label: str
    sent_at: float
    event_times: tuple[float, ...]
    text: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int

    @property
    def first_text_at(self) -> float:
        return self.event_times[0]

    @property
    def ttft(self) -> float:
        """Seconds from sending the request until the first text was there."""
        return self.first_text_at - self.sent_at


@dataclass
class SessionsResult:
    """What one load found, in the order in which the replies ended. `client_cpu_seconds` is what
    the client itself used, `server_cpu_seconds` what the server did, where it was measured."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    started_at: float = 0.0
    seconds: float = 0.0
    client_cpu_seconds: float = 0.0
    server_cpu_seconds: float = math.nan

    @property
    def num_tokens(self) -> int:
        """Tokens that were really generated."""
        return sum(answer.completion_tokens for answer in self.answers)


@dataclass(frozen=True)
class Endpoint:
    """Where to send requests, and the fields that all bodies to this server have."""

    port: int
    fields: Mapping[str, Any]


class Client:
    """What one session asks with."""

    def __init__(self, endpoint: Endpoint, number: int, result: SessionsResult) -> None:
        self._endpoint = endpoint
        self._number = number
        self._result = result

    async def ask(self, ask: Ask) -> Answer | None:
        """Send a request and wait for its end. None where it failed, which has been counted."""
        try:
            answer = await self._exchange(ask)
        except (OSError, BadReply) as error:
            self._result.failures.append(str(error) or type(error).__name__)
            return None
        except asyncio.CancelledError:
            self._result.failures.append("no reply before the time was up")
            raise
        self._result.answers.append(answer)
        return answer

    async def _exchange(self, ask: Ask) -> Answer:
        request = post(PATH, self._body(ask))
        connection = await connect(self._endpoint.port)
        try:
            sent_at = time.perf_counter()
            raw = await connection.exchange(request, ask.on_text)
        finally:
            connection.close()
        return read_answer(raw, self._number, ask.label, sent_at)

    def _body(self, ask: Ask) -> dict[str, Any]:
        return {
            **self._endpoint.fields,
            **({"model": ask.model} if ask.model else {}),
            "messages": list(ask.messages),
            "max_tokens": ask.max_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


Session = Callable[[Client], Coroutine[Any, Any, None]]


def run_sessions(
    endpoint: Endpoint, sessions: Sequence[Session], *, timeout: float
) -> SessionsResult:
    """Run all sessions at the same time. After `timeout` seconds what is missing has failed."""
    assert 1 <= len(sessions) <= MAX_SESSIONS, "a load has bounds"
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_run(endpoint, sessions, timeout))


async def _run(endpoint: Endpoint, sessions: Sequence[Session], seconds: float) -> SessionsResult:
    result = SessionsResult(started_at=time.perf_counter())
    cpu_started = time.process_time()
    try:
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            for number, session in enumerate(sessions):
                group.create_task(session(Client(endpoint, number, result)))
    except TimeoutError:
        result.failures.append(f"the load took more than {seconds:g} s")
    result.seconds = time.perf_counter() - result.started_at
    result.client_cpu_seconds = time.process_time() - cpu_started
    return result


def read_answer(raw: RawReply, session: int, label: str, sent_at: float) -> Answer:
    """Take a whole stream apart. Raises BadReply where it is not a good one."""
    texts: list[str] = []
    times: list[float] = []
    usage: dict[str, Any] | None = None
    finish_reason = ""
    for when, event in timed_events(raw):
        chunk = json.loads(event[6:])
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            finish_reason = choice["finish_reason"] or finish_reason
            if text := choice["delta"].get("content"):
                texts.append(text)
                times.append(when)
    if usage is None or not texts:
        raise BadReply("the stream has no usage" if texts else "the stream has no text")
    return Answer(
        session=session,
        label=label,
        sent_at=sent_at,
        event_times=tuple(times),
        text="".join(texts),
        finish_reason=finish_reason,
        prompt_tokens=usage["prompt_tokens"],
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        completion_tokens=usage["completion_tokens"],
    )
