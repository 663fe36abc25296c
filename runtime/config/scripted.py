"""Settings of the scripted engine."""

from typing import Annotated

from msgspec import Meta, Struct


class ScriptedConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The deterministic engine for tests and front-end benchmarks.

    `poison` is for drills: the process dies as by a failed assertion when it has given
    `poison_after` tokens to a request whose prompt contains that text; "" is off.
    """

    text: str = "The quick brown fox jumps over the lazy dog. "
    num_tokens: Annotated[int, Meta(ge=0)] = 0
    step_ms: Annotated[float, Meta(ge=0)] = 0.0
    load_ms: Annotated[float, Meta(ge=0)] = 0.0
    poison: str = ""
    poison_after: Annotated[int, Meta(ge=0)] = 0
