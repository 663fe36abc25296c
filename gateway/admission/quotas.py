"""The used part of each key's limits, and permits for running requests. Pure.

A request is charged when it is admitted, so that concurrent requests cannot exceed a limit
together. Tokens are reserved for the prompt and the longest possible answer; when the request is
over, the reservation is replaced by the tokens used.
"""

import math
import time
from collections.abc import Callable

from gateway.admission.keys import KeyEntry, Principal
from gateway.admission.rate_limits import Charge, SlidingWindow
from gateway.errors import RateLimited

CONCURRENCY_RETRY_SECONDS = 2.0
"""Retry delay after too many concurrent requests; the end of a running request is not known."""

UNLIMITED_ANSWER_TOKENS = 1024
"""Tokens reserved for an answer whose request sets no limit. Reserving the rest of the context
would lock out the key's other requests, and answers are hardly ever that long."""


class Quota:
    """One key's use of its limits, which counts while it has none, too. `num_running` counts its
    requests in flight."""

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.num_running = 0
        self.requests = SlidingWindow()
        self.tokens = SlidingWindow()
        self.max_running: int | None = None
        self.clock = clock

    def set_limits(self, entry: KeyEntry) -> None:
        """Replaces the limits; used amounts stay."""
        self.requests.limit = entry.requests_per_minute or math.inf
        self.tokens.limit = entry.tokens_per_minute or math.inf
        self.max_running = entry.max_concurrent_requests

    def headers(self) -> list[tuple[bytes, bytes]]:
        """OpenAI's `x-ratelimit-*` headers, for the limits that are set."""
        now = self.clock()
        headers = []
        for kind, window in ((b"requests", self.requests), (b"tokens", self.tokens)):
            if window.limit < math.inf:
                headers += [
                    (b"x-ratelimit-limit-" + kind, b"%d" % window.limit),
                    (b"x-ratelimit-remaining-" + kind, b"%d" % window.remaining(now)),
                    (b"x-ratelimit-reset-" + kind, duration(window.reset_after(now))),
                ]
        return headers

    def enter(self, *, is_new: bool = True) -> "Permit":
        """Admits one request, which is charged if it is new. Raises RateLimited."""
        if self.max_running is not None and self.num_running >= self.max_running:
            raise RateLimited(
                f"The key `{self.name}` has as many requests running as it may have at a time:"
                f" {self.max_running}.",
                kind="requests",
                retry_after=CONCURRENCY_RETRY_SECONDS,
            )
        return Permit(self, self._take(self.requests, 1, "requests") if is_new else None)

    def reserve(self, tokens: int) -> Charge:
        """Charges tokens. Raises RateLimited."""
        return self._take(self.tokens, tokens, "tokens")

    def _take(self, window: SlidingWindow, amount: int, kind: str) -> Charge:
        now = self.clock()
        charge = window.take(amount, now)
        if charge is None:
            raise self._refusal(window, amount, kind, now)
        return charge

    def _refusal(self, window: SlidingWindow, amount: int, kind: str, now: float) -> RateLimited:
        seconds = window.retry_after(amount, now)
        if seconds == math.inf:
            return RateLimited(
                f"The request needs up to {amount} tokens, and the key `{self.name}` may use"
                f" {window.limit} a minute. Ask with a smaller `max_tokens` or a shorter prompt.",
                kind=kind,
                retry_after=None,
            )
        return RateLimited(
            f"The key `{self.name}` may use {window.limit} {kind} a minute and has"
            f" {window.remaining(now)} left; this request needs {amount}."
            f" Try again in {seconds:.0f} seconds.",
            kind=kind,
            retry_after=seconds,
        )


class Permit:
    """One admitted request. Call `close` once, when the request is over."""

    def __init__(self, quota: Quota, request_charge: Charge | None) -> None:
        self._quota = quota
        self._request_charge = request_charge
        self._token_charge: Charge | None = None
        self._reserved = 0
        self._used: Callable[[], int] = lambda: 0
        quota.num_running += 1

    def reserve_tokens(self, tokens: int, used: Callable[[], int]) -> None:
        """Reserves tokens for prompt and answer. When the request ends, `used` returns the tokens
        really used. A request may do so for one answer after the other. Raises RateLimited."""
        self._settle_tokens(self._used())
        self._token_charge = self._quota.reserve(tokens)
        self._reserved, self._used = tokens, used

    def refund(self) -> None:
        """Gives back what the request was charged: the server had no room for it."""
        quota = self._quota
        self._settle_tokens(0)
        if self._request_charge is not None:
            quota.requests.settle(self._request_charge, 1, 0, quota.clock())
        self._request_charge = None

    def close(self) -> None:
        """Ends the request, and charges it for what it has used unless it was refunded."""
        self._quota.num_running -= 1
        if self._token_charge is not None:
            self._settle_tokens(self._used())

    def _settle_tokens(self, used: int) -> None:
        quota = self._quota
        if self._token_charge is not None:
            quota.tokens.settle(self._token_charge, self._reserved, used, quota.clock())
        self._token_charge = None


class Quotas:
    """The quotas of all keys used so far, by key name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quotas: dict[str, Quota] = {}

    def of(self, principal: Principal) -> Quota:
        """The quota of a key, with the key's current limits."""
        quota = self._quotas.get(principal.name)
        if quota is None:
            quota = self._quotas[principal.name] = Quota(principal.name, self._clock)
        quota.set_limits(principal.entry)
        return quota


def duration(seconds: float) -> bytes:
    """As OpenAI writes it: `1m0s`, `12.345s`, `20ms`."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return (f"{minutes}m{text}" if minutes else text).encode()
