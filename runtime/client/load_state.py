"""What the start of an engine waits for, as the gateway knows it."""

from msgspec import Struct

from runtime.messages.loading import LoadPhase

SILENCE_SECONDS = 30.0
"""How long an engine that loads may give no sign of life before that is told."""

_WORDS: dict[LoadPhase, str] = {
    "model_file": "The model's file is checked",
    "process": "The engine's process starts",
    "tokenizer": "The tokenizer is read",
    "library": "The engine's library is loaded",
    "weights": "The weights are read",
    "engine": "The engine's library reads weights, builds kernels and sets memory aside",
    "warm_up": "The first tokens are computed",
}


class LoadState(Struct, frozen=True, kw_only=True):
    """The start of one engine. Times are seconds of this process's monotonic clock: when the engine
    and when the phase began, and when the engine last gave a sign of life. `fraction` is the share
    of the phase that is done, 0 to 1, None if nobody knows. `timeout` is how many seconds without a
    sign of life end the start, 0 if none do."""

    phase: LoadPhase
    started: float
    since: float
    last_sign: float
    timeout: float
    fraction: float | None = None

    def activity(self, now: float) -> str:
        """What is done at the time `now`, as a sentence."""
        share = "" if self.fraction is None else f" ({self.fraction:.0%})"
        return f"{_WORDS[self.phase]}{share}, for {now - self.since:.0f} s now."

    def sentence(self, now: float) -> str:
        """The same, and whether the engine is silent."""
        silence = now - self.last_sign
        if not self.timeout or silence < SILENCE_SECONDS:
            return self.activity(now)
        return (
            f"{self.activity(now)} There has been no sign of life for {silence:.0f} s; the start is"
            f" given up after {self.timeout:.0f} s."
        )
