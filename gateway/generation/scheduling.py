"""How a request is scheduled: priority, tenant, deadline and prefix cache. Pure.

These parameters are this server's own, next to OpenAI's `service_tier`, `user` and
`safety_identifier`: they change when an answer comes and never its content.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.errors import PermissionDenied
from runtime.config.engine import PrefixCaching
from runtime.config.llama_cpp import Auto
from runtime.errors import InvalidRequest
from runtime.messages.request import PRIORITY_STEP

PRIORITIES: Mapping[str, int] = {
    "interactive": -PRIORITY_STEP,
    "normal": 0,
    "batch": PRIORITY_STEP,
}
MAX_PRIORITY = 1000

TIERS: Mapping[str | None, int] = {
    "priority": PRIORITIES["interactive"],
    "flex": PRIORITIES["batch"],
}
"""OpenAI's tiers whose priority differs from the default."""

MAX_TENANT_LENGTH = 64
"""Characters, OpenAI's limit. A longer name is replaced by its hash, which has this length."""


PriorityClass = Literal["interactive", "normal", "batch"]


class Caller(Struct, frozen=True, kw_only=True):
    """The origin of a request, and the settings for serving it.

    `arrival_time` is on the monotonic clock; `unix_time` is the same moment on the wall clock.
    `key_fingerprint` stands for the client's key; it is empty without a key. `has_key` means that
    the server knows the key. `key_priority` is the best priority class that the key may use; None
    allows any.
    """

    arrival_time: float
    unix_time: float
    key_fingerprint: str
    max_queue_seconds: float
    prefix_caching: PrefixCaching | Auto
    key_priority: PriorityClass | None = None
    has_key: bool = False


class SchedulingWish(Struct, frozen=True, kw_only=True):
    """A client's wishes, as it sent them; None if it did not send one.

    `priority` is not checked yet. `tier` is OpenAI's `service_tier`. `tenant` is the end user whose
    share of the engine the request takes. `deadline` is a Unix time in seconds.
    """

    priority: Any = None
    tier: str | None = None
    tenant: str | None = None
    cache_salt: str | None = None
    deadline: float | None = None


class Scheduling(Struct, frozen=True, kw_only=True):
    """The scheduling of all requests of one answer. The fields are those of the engine's
    `Request`."""

    priority: int
    tenant: str
    cache_salt: str
    arrival_time: float
    deadline: float
    lora: str = ""


def scheduling_of(wish: SchedulingWish, caller: Caller, lora: str = "") -> Scheduling:
    """Checked, with every default applied. `lora` is the adapter that the model's name stands for;
    "" is no adapter."""
    tenant = _tenant(wish, caller)
    return Scheduling(
        priority=_priority(wish, caller),
        # a name chosen by the client must not take the share of another key
        tenant=caller.key_fingerprint if caller.has_key else tenant,
        cache_salt=_cache_salt(wish, tenant, caller, lora),
        arrival_time=caller.arrival_time,
        deadline=_deadline(wish, caller),
        lora=lora,
    )


def served_tier(wish: SchedulingWish, scheduling: Scheduling) -> str | None:
    """The tier that the answer reports; None if the client set none."""
    if wish.tier is None:
        return None
    is_applied = wish.priority is None and TIERS.get(wish.tier) == scheduling.priority
    return wish.tier if is_applied else "default"


def _priority(wish: SchedulingWish, caller: Caller) -> int:
    """`service_tier` is a wish: the answer reports the tier that was served. `priority` is an
    order: it is refused if the key does not allow it."""
    best = PRIORITIES[caller.key_priority] if caller.key_priority else None
    if wish.priority is None:
        wanted = TIERS.get(wish.tier, best or 0)
        return wanted if best is None else max(wanted, best)
    priority = _checked_priority(wish.priority)
    if best is not None and priority < best:
        raise PermissionDenied(
            f"The key is for requests of the class `{caller.key_priority}` or lower ones.",
            param="priority",
            code="priority_not_allowed",
        )
    return priority


def _checked_priority(value: Any) -> int:
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if type(value) is int and abs(value) <= MAX_PRIORITY:  # a bool does not count as a number
        return value
    names = ", ".join(f'"{name}"' for name in PRIORITIES)
    raise InvalidRequest(
        f"`priority` is one of {names}, or a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY};"
        " lower is served first.",
        param="priority",
    )


def _tenant(wish: SchedulingWish, caller: Caller) -> str:
    tenant = wish.tenant or caller.key_fingerprint
    if len(tenant) <= MAX_TENANT_LENGTH:
        return tenant
    return hashlib.sha256(tenant.encode()).hexdigest()


def _cache_salt(wish: SchedulingWish, tenant: str, caller: Caller, lora: str) -> str:
    salt = wish.cache_salt or ""
    parts = [lora, salt] if lora else [salt]  # an adapter computes other keys and values
    if caller.prefix_caching == "per_tenant":  # the key too: the client chooses `user`
        parts = [caller.key_fingerprint, tenant, *parts]
    is_plain = len(parts) == 1 and not salt.startswith("[")
    # As JSON, so that no two combinations look alike, nor a client's salt like one of them.
    return salt if is_plain else msgspec.json.encode(parts).decode()


def _deadline(wish: SchedulingWish, caller: Caller) -> float:
    """On the monotonic clock, and no later than the settings allow."""
    patience = caller.max_queue_seconds
    if wish.deadline is not None:
        remaining = wish.deadline - caller.unix_time
        if remaining < 0:
            raise InvalidRequest(
                f"`deadline` is {-remaining:.1f} seconds in the past. It is a Unix time in"
                f" seconds; when this request came it was {caller.unix_time:.1f}.",
                param="deadline",
            )
        patience = min(patience, remaining)
    return caller.arrival_time + patience
