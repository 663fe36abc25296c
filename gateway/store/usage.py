"""Sums of tokens by hour, as the store keeps them."""

from msgspec import Struct


class UsageKey(Struct, frozen=True, order=True, gc=False):
    """What a sum belongs to. `hour` is when the hour began, in seconds since 1970; of a sum over a
    longer time it is when that began. `owner` is the name of a key, and `endpoint` the path of a
    route."""

    hour: int
    owner: str
    model: str
    endpoint: str
    is_batch: bool = False


class Counts(Struct, frozen=True, gc=False):
    """Requests and their tokens. `cached_tokens` are part of `input_tokens`, and `reasoning_tokens`
    of `output_tokens`."""

    num_requests: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.num_requests + other.num_requests,
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


class UsageQuery(Struct, frozen=True):
    """The sums of the hours from `start` up to `end`, both in seconds since 1970, of `owner` (None:
    of all). Hours are put together whose begin has the same multiple of `seconds` at or below
    it."""

    start: int
    end: int
    owner: str | None = None
    seconds: int = 3600
