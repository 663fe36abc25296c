"""Counters of tokens: idling earns nothing, debts are kept, invented tenants cost no memory."""

from runtime.fair_share import MAX_IDLE_COUNTERS, RECENT_CHARGES, FairShare


def test_a_newcomer_starts_at_the_smallest_active_counter():
    share = FairShare()
    for tenant in ("waits", "runs"):
        share.enter(tenant)
    share.charge("waits", 300.0)
    share.charge("runs", 100.0)
    share.leave("runs")

    share.enter("new")

    assert share.served("waits") == 300.0
    assert share.served("new") == 100.0


def test_an_old_debt_is_kept():
    share = FairShare()
    share.charge("debtor", 1000.0)
    share.enter("other")
    share.enter("debtor")

    assert share.served("debtor") == 1000.0


def test_who_has_not_been_charged_for_long_is_active_no_more():
    share = FairShare()
    share.charge("left", 5.0)
    for _ in range(RECENT_CHARGES - 1):
        share.charge("runs", 1.0)
    share.enter("early")
    assert share.served("early") == 5.0
    share.leave("early")
    share.charge("runs", 1.0)

    share.enter("late")

    assert share.served("late") == 5.0 + RECENT_CHARGES


def test_a_quiet_time_leaves_the_reference_where_it_was():
    share = FairShare()
    share.charge("last", 700.0)

    share.enter("first after a while")

    assert share.served("first after a while") == 700.0


def test_a_tenant_with_several_requests_is_lifted_once():
    share = FairShare()
    share.enter("a")
    share.charge("b", 10.0)
    share.enter("a")
    share.leave("a")

    assert share.served("a") == 0.0


def test_invented_tenants_are_forgotten():
    share = FairShare()
    for number in range(3 * MAX_IDLE_COUNTERS):
        share.enter(f"t{number}")
        share.leave(f"t{number}")
        share.charge(f"t{number}", 10.0 * number)

    assert share.num_counters <= MAX_IDLE_COUNTERS + RECENT_CHARGES + 1


def test_the_largest_debts_are_remembered_longest():
    share = FairShare()
    share.enter("active")
    for number in range(2 * MAX_IDLE_COUNTERS + RECENT_CHARGES):
        share.charge(f"t{number}", 1e6 if number == 7 else 1.0)

    share.enter("t7")

    assert share.served("t7") == 1e6
