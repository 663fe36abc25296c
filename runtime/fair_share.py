"""Fair share: counts the tokens served to each tenant, to decide which tenant is next.

The virtual token counter of "Fairness in Serving Large Language Models" (OSDI 2024): the tenant
with the smallest counter is next. When a tenant without waiting requests sends one, its counter is
raised to the smallest counter of the active tenants, so that idle time earns no credit. A tenant is
active while it has a request waiting or was charged recently.
"""

from collections import Counter

RECENT_CHARGES = 512
"""A tenant is active if one of the last RECENT_CHARGES charges was its own. A step charges each
running request once, and at most 256 run."""

MAX_IDLE_COUNTERS = 4096
"""Maximum number of counters kept for idle tenants. Beyond it the smallest counters, which matter
least, are dropped, so that any number of invented tenants costs bounded memory."""


class FairShare:
    """Counters of tokens by tenant. Every tenant with a request waiting has one."""

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._num_waiting: Counter[str] = Counter()
        self._num_charges = 0
        self._charged_at: dict[str, int] = {}  # ordered by last charge

    @property
    def num_counters(self) -> int:
        return len(self._counters)

    def served(self, tenant: str) -> float:
        """The counter of a tenant that has a request waiting."""
        return self._counters[tenant]

    def enter(self, tenant: str) -> None:
        """Count one more waiting request of this tenant."""
        if not self._num_waiting[tenant]:
            self._counters[tenant] = max(self._counters.get(tenant, 0.0), self._least_active())
            self._forget_idle()
        self._num_waiting[tenant] += 1

    def leave(self, tenant: str) -> None:
        """Count one waiting request of this tenant less."""
        self._num_waiting[tenant] -= 1
        if not self._num_waiting[tenant]:
            del self._num_waiting[tenant]

    def charge(self, tenant: str, num_tokens: float) -> None:
        """Add served tokens to this tenant's counter."""
        if tenant not in self._counters:
            self._counters[tenant] = self._least_active()
        self._counters[tenant] += num_tokens
        self._num_charges += 1
        self._charged_at.pop(tenant, None)
        self._charged_at[tenant] = self._num_charges
        self._drop_old_charge()
        self._forget_idle()

    def _least_active(self) -> float:
        active = self._num_waiting.keys() | self._charged_at.keys()
        return min((self._counters[tenant] for tenant in active), default=0.0)

    def _drop_old_charge(self) -> None:
        """Drop the oldest charge if it is no longer recent. One new charge outdates at most one."""
        oldest = next(iter(self._charged_at))
        if self._charged_at[oldest] <= self._num_charges - RECENT_CHARGES:
            del self._charged_at[oldest]

    def _forget_idle(self) -> None:
        """Drop idle counters beyond the maximum. A counter up to the smallest active one carries no
        information, since it would be raised on return."""
        num_active = len(self._num_waiting) + len(self._charged_at)
        if len(self._counters) <= num_active + MAX_IDLE_COUNTERS:
            return
        active = self._num_waiting.keys() | self._charged_at.keys()
        least = self._least_active()
        idle = [
            (served, tenant)
            for tenant, served in self._counters.items()
            if tenant not in active and served > least
        ]
        idle.sort(reverse=True)
        kept = {tenant: served for served, tenant in idle[: MAX_IDLE_COUNTERS // 2]}
        self._counters = kept | {tenant: self._counters[tenant] for tenant in active}
