"""Whose turn it is: how many tokens each tenant has been served, as far as that still matters.

The virtual token counter of "Fairness in Serving Large Language Models" (OSDI 2024): the tenant
with the smallest counter is next, and one that comes with nothing waiting is lifted to the
smallest counter of those that are active, so that staying away earns no credit. Active is who has
a request waiting or was charged a moment ago.
"""

from collections import Counter

RECENT_CHARGES = 512
"""A tenant that was charged within this many charges is active: a step charges each running
request once, and at most 256 run."""

MAX_IDLE_COUNTERS = 4096
"""Counters kept of tenants that are not active. Beyond it the smallest are forgotten, those that
are worth least, so that any number of invented tenants costs bounded memory."""


class FairShare:
    """Counters of tokens by tenant. Every tenant with a request waiting has one."""

    def __init__(self) -> None:
        self._counters: dict[str, float] = {}
        self._num_waiting: Counter[str] = Counter()
        self._num_charges = 0
        self._charged_at: dict[str, int] = {}  # in the order of the last charge

    @property
    def num_counters(self) -> int:
        return len(self._counters)

    def served(self, tenant: str) -> float:
        """The counter of a tenant that has a request waiting."""
        return self._counters[tenant]

    def enter(self, tenant: str) -> None:
        """A request of this tenant begins to wait."""
        if not self._num_waiting[tenant]:
            self._counters[tenant] = max(self._counters.get(tenant, 0.0), self._least_active())
            self._forget_idle()
        self._num_waiting[tenant] += 1

    def leave(self, tenant: str) -> None:
        """A request of this tenant waits no longer."""
        self._num_waiting[tenant] -= 1
        if not self._num_waiting[tenant]:
            del self._num_waiting[tenant]

    def charge(self, tenant: str, num_tokens: float) -> None:
        """Tokens were served to this tenant."""
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
        """One charge makes at most one other tenant's last charge too old."""
        oldest = next(iter(self._charged_at))
        if self._charged_at[oldest] <= self._num_charges - RECENT_CHARGES:
            del self._charged_at[oldest]

    def _forget_idle(self) -> None:
        """Counters up to the smallest active one say nothing: their tenants would be lifted."""
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
