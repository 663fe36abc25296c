"""What the serving benchmark asks for: four kinds of load, each a set of sessions.

The texts depend on the workload, the number of streams, the round and the session, so every server
gets the same ones, and no round is answered from what a cache kept of an earlier one.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, Self

from sessions import Ask, Client, Message, Session
from words import Words

SHORT_WORDS = 20
SHARED_WORDS = 870
LONG_WORDS = 3950
TURN_WORDS = 52
NUM_TURNS = 4

ROLE = "You are a careful assistant. Bear these notes in mind:"
STORY = "Write a long story in which all of these words come up:"
TURN = "Go on with the story, at length, and bring in all of these words:"
SUMMARY = "Write a long story about all of this:"


class Workload(Protocol):
    """A load that can be made for any number of streams."""

    @property
    def name(self) -> str: ...

    def sessions(self, num_streams: int, round_number: int) -> list[Session]:
        """What is to run at the same time. Round 0 is the one for warming up."""
        ...

    def brief(self) -> Self:
        """The same, as short as it gets: to warm up with."""
        ...


@dataclass(frozen=True)
class Short:
    """Short chats, each stream sending its next request when the last one is complete."""

    num_requests: int = 3
    max_tokens: int = 64
    name: str = "short"

    def sessions(self, num_streams: int, round_number: int) -> list[Session]:
        sources = [_words(self, num_streams, round_number, n) for n in range(num_streams)]
        return [
            closed_loop([Ask([_story(words)], self.max_tokens) for _ in range(self.num_requests)])
            for words in sources
        ]

    def brief(self) -> "Short":
        return replace(self, num_requests=1, max_tokens=8)


@dataclass(frozen=True)
class Shared:
    """Short questions after a long system prompt that all requests of the load have in common."""

    num_requests: int = 2
    max_tokens: int = 32
    num_words: int = SHARED_WORDS
    name: str = "shared"

    def sessions(self, num_streams: int, round_number: int) -> list[Session]:
        notes = _words(self, num_streams, round_number, "system").take(self.num_words)
        system = {"role": "system", "content": f"{ROLE} {notes}."}
        sources = [_words(self, num_streams, round_number, n) for n in range(num_streams)]
        return [
            closed_loop(
                [Ask([system, _story(words)], self.max_tokens) for _ in range(self.num_requests)]
            )
            for words in sources
        ]

    def brief(self) -> "Shared":
        return replace(self, num_requests=1, max_tokens=8, num_words=40)


@dataclass(frozen=True)
class Long:
    """Streams that generate, and one long prompt that comes in between.

    The others, all streams but one and at least one, send request after request. `calm` seconds
    after the last of them has begun to stream the long prompt is sent; when it has been answered
    nobody sends anything more. `max_requests` bounds each of the others.
    """

    max_tokens: int = 192
    num_words: int = LONG_WORDS
    long_tokens: int = 16
    calm: float = 3.0
    max_requests: int = 20
    name: str = "long"

    def sessions(self, num_streams: int, round_number: int) -> list[Session]:
        num_others = max(num_streams - 1, 1)
        meeting = _Meeting(num_others)
        others = [
            partial(
                self._generate,
                words=_words(self, num_streams, round_number, number),
                meeting=meeting,
                number=number,
            )
            for number in range(num_others)
        ]
        text = _words(self, num_streams, round_number, "long").take(self.num_words)
        ask = Ask([_user(f"{SUMMARY} {text}.")], self.long_tokens, label=LONG)
        return [*others, partial(self._interrupt, ask=ask, meeting=meeting)]

    def brief(self) -> "Long":
        return replace(self, max_tokens=8, num_words=40, long_tokens=8, calm=0.0)

    async def _generate(
        self, client: Client, *, words: Words, meeting: "_Meeting", number: int
    ) -> None:
        arrive = partial(meeting.arrive, number)
        for _ in range(self.max_requests):
            await client.ask(Ask([_story(words)], self.max_tokens, OTHERS, on_text=arrive))
            arrive()  # it may have failed without a text
            if meeting.is_over:
                return

    async def _interrupt(self, client: Client, *, ask: Ask, meeting: "_Meeting") -> None:
        await meeting.is_complete.wait()
        await asyncio.sleep(self.calm)
        try:
            await client.ask(ask)
        finally:
            meeting.is_over = True


LONG = "long"
OTHERS = "others"
"""Labels of the requests of `Long`."""


class _Meeting:
    """Where the sessions of one load wait for each other."""

    def __init__(self, num_sessions: int) -> None:
        self.is_complete = asyncio.Event()
        self.is_over = False
        self._missing = set(range(num_sessions))

    def arrive(self, number: int) -> None:
        """May be called any number of times."""
        self._missing.discard(number)
        if not self._missing:
            self.is_complete.set()


@dataclass(frozen=True)
class MultiTurn:
    """Conversations: each turn has all that was said before, the server's own answers included."""

    num_turns: int = NUM_TURNS
    max_tokens: int = 32
    name: str = "multiturn"

    def sessions(self, num_streams: int, round_number: int) -> list[Session]:
        return [
            partial(self._talk, words=_words(self, num_streams, round_number, number))
            for number in range(num_streams)
        ]

    def brief(self) -> "MultiTurn":
        return replace(self, num_turns=2, max_tokens=8)

    async def _talk(self, client: Client, *, words: Words) -> None:
        said: list[Message] = []
        for turn in range(1, self.num_turns + 1):
            said.append(_user(f"{TURN} {words.take(TURN_WORDS)}."))
            answer = await client.ask(Ask(tuple(said), self.max_tokens, turn_label(turn)))
            if answer is None:
                return
            said.append({"role": "assistant", "content": answer.text})


def turn_label(turn: int) -> str:
    """The label of the requests of a turn; the first one is 1."""
    return f"turn {turn}"


def closed_loop(asks: Sequence[Ask]) -> Session:
    """One request after the other, whatever the answers are."""

    async def session(client: Client) -> None:
        for ask in asks:
            await client.ask(ask)

    return session


WORKLOADS: dict[str, Callable[[], Workload]] = {
    "short": Short,
    "shared": Shared,
    "long": Long,
    "multiturn": MultiTurn,
}


def _words(workload: Workload, num_streams: int, round_number: int, session: int | str) -> Words:
    return Words(f"{workload.name}/{num_streams}/{round_number}/{session}")


def _story(words: Words) -> Message:
    return _user(f"{STORY} {words.take(SHORT_WORDS)}.")


def _user(content: str) -> Message:
    return {"role": "user", "content": content}
