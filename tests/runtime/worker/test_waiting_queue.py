"""The queue is bounded and fair, starves nobody, and forgets what is removed."""

import math
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from runtime.errors import EngineOverloaded
from runtime.fair_share import RECENT_CHARGES
from runtime.messages.request import PRIORITY_STEP, Request
from runtime.worker.waiting_queue import WaitingQueue
from tests.kit.engines import a_request

AGEING = 10.0


def order_of(queue: WaitingQueue, now: float = 0.0) -> list[str]:
    """Takes everything out."""
    return [queue.pop(now).request_id for _ in range(len(queue))]


def test_a_full_queue_refuses_and_keeps_what_it_has():
    queue = WaitingQueue(1, AGEING)
    queue.push(a_request("first"))

    with pytest.raises(EngineOverloaded):
        queue.push(a_request("second"))

    assert order_of(queue) == ["first"]


def test_free_places_in_the_engine_count_as_room():
    queue = WaitingQueue(0, AGEING)

    queue.push(a_request("runs at once"), num_free=1)

    assert len(queue) == 1


def test_what_the_engine_gives_back_is_never_refused():
    queue = WaitingQueue(1, AGEING)
    queue.push(a_request("waits"))

    queue.push_back(a_request("comes back"))

    assert len(queue) == 2


def test_a_removed_request_never_comes_out():
    queue = WaitingQueue(4, AGEING)
    for request_id in ("a", "b", "c"):
        queue.push(a_request(request_id))

    assert queue.remove("a")
    assert not queue.remove("a")

    assert order_of(queue) == ["b", "c"]
    assert queue.peek(0.0) is None


def test_a_preempted_request_stands_where_its_arrival_puts_it():
    queue = WaitingQueue(8, AGEING)
    for request_id, arrival_time in (("b", 2.0), ("c", 3.0), ("also b", 2.0)):
        queue.push(a_request(request_id, arrival_time=arrival_time))

    for request_id, arrival_time in (("d", 4.0), ("began as b", 2.0), ("a", 1.0)):
        queue.push_back(a_request(request_id, arrival_time=arrival_time))

    assert order_of(queue) == ["a", "began as b", "b", "also b", "c", "d"]


def test_several_that_come_back_stand_in_their_first_order():
    """The engine gives back first what it took last."""
    queue = WaitingQueue(8, AGEING)
    for request_id in ("a", "b", "c"):
        queue.push(a_request(request_id))
    first, second = queue.pop(0.0), queue.pop(0.0)

    queue.push_back(second)
    queue.push_back(first)

    assert order_of(queue) == ["a", "b", "c"]


def test_a_class_is_gained_with_every_period_of_waiting():
    queue = WaitingQueue(8, AGEING)
    queue.push(a_request("batch", priority=PRIORITY_STEP, arrival_time=100.0))
    queue.push(a_request("normal", priority=0, arrival_time=105.0))

    for now, first in ((105.0, "normal"), (110.0, "batch"), (115.0, "normal"), (120.0, "batch")):
        head = queue.peek(now)
        assert head is not None
        assert head.request_id == first


def test_finer_orders_than_classes_count_too():
    queue = WaitingQueue(8, AGEING)
    for priority in (1, -1, 0, 99, 101):
        queue.push(a_request(str(priority), priority=priority))

    assert order_of(queue) == ["-1", "0", "1", "99", "101"]


def test_who_waits_at_the_deadline_is_taken_out_but_not_who_has_begun():
    queue = WaitingQueue(8, AGEING)
    queue.push(a_request("late", deadline=20.0))
    queue.push(a_request("first", deadline=10.0))
    queue.push(a_request("patient"))
    queue.push(a_request("resumed", deadline=10.0, output_token_ids=[1]))
    queue.push_back(a_request("preempted", deadline=10.0))

    assert queue.take_expired(9.9) == []
    assert [expired.request_id for expired in queue.take_expired(10.0)] == ["first"]
    assert [expired.request_id for expired in queue.take_expired(1e9)] == ["late"]
    assert sorted(order_of(queue)) == ["patient", "preempted", "resumed"]


def test_a_request_that_was_given_back_lives_on_after_its_first_deadline():
    queue = WaitingQueue(8, AGEING)
    queue.push(a_request("a", deadline=10.0))

    queue.push_back(queue.pop(5.0))

    assert queue.take_expired(11.0) == []
    assert order_of(queue) == ["a"]


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5), st.booleans()), max_size=40))
def test_one_tenant_gets_priority_then_arrival(entries: list[tuple[int, int, bool]]):
    queue = WaitingQueue(len(entries), AGEING)
    kept = []
    for number, (priority, arrival_time, removed) in enumerate(entries):
        queue.push(a_request(str(number), priority=priority, arrival_time=float(arrival_time)))
        queue.charge("", 7.0)
        if removed:
            queue.remove(str(number))
        else:
            kept.append((priority, arrival_time, number))

    assert [int(request_id) for request_id in order_of(queue)] == [n for *_, n in sorted(kept)]


class QueueAgainstReference(RuleBasedStateMachine):
    """Whatever happens, the queue does what sorting everything at every step would do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1.0
        self.number = 0
        self.queue = WaitingQueue(12, AGEING)
        self.waiting: list[tuple[int, Request]] = []
        self.begun: list[Request] = []
        self.gone: set[str] = set()
        self.served: dict[str, float] = {}
        self.charged: list[str] = []

    @rule(
        priority=st.sampled_from([-100, -1, 0, 50, 100]),
        tenant=st.sampled_from("abc"),
        waited=st.integers(0, 25),
        patience=st.integers(0, 30),
        begun=st.booleans(),
    )
    def push(self, priority: int, tenant: str, waited: int, patience: int, begun: bool) -> None:
        self.number += 1
        new = a_request(
            str(self.number),
            priority=priority,
            tenant=tenant,
            arrival_time=self.now - waited,
            deadline=self.now + patience if patience else 0.0,
            output_token_ids=[1] if begun else [],
        )
        if len(self.waiting) >= 12:
            with pytest.raises(EngineOverloaded):
                self.queue.push(new)
            return
        self.queue.push(new)
        self.enter(self.number, new)

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        self.number += 1
        back = self.begun.pop(data.draw(st.integers(0, len(self.begun) - 1)))
        self.gone.discard(back.request_id)
        self.queue.push_back(back)
        self.enter(-self.number, replace(back, deadline=0.0))

    def enter(self, order: int, new: Request) -> None:
        if all(other.tenant != new.tenant for _, other in self.waiting):
            self.served[new.tenant] = max(self.served.get(new.tenant, 0.0), self.least())
        self.waiting.append((order, new))

    def least(self) -> float:
        active = {other.tenant for _, other in self.waiting} | set(self.charged[-RECENT_CHARGES:])
        return min((self.served[tenant] for tenant in active), default=0.0)

    @rule(tenant=st.sampled_from("abc"), num_tokens=st.integers(1, 50))
    def charge(self, tenant: str, num_tokens: int) -> None:
        self.queue.charge(tenant, num_tokens)
        self.served[tenant] = self.served.get(tenant, self.least()) + num_tokens
        self.charged.append(tenant)

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.waiting)
    @rule()
    def pop(self) -> None:
        self.waiting.sort(key=self.rank)
        _, expected = self.waiting.pop(0)
        assert self.queue.peek(self.now) == self.queue.pop(self.now)
        self.begun.append(expected)
        self.charged.append(expected.tenant)
        self.gone.add(expected.request_id)

    def rank(self, item: tuple[int, Request]) -> tuple[float, ...]:
        order, waiting = item
        classes = math.floor((self.now - waiting.arrival_time) / AGEING)
        priority = waiting.priority - PRIORITY_STEP * classes
        return priority, self.served[waiting.tenant], waiting.arrival_time, order

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        request_id = str(data.draw(st.integers(1, self.number + 1)))
        here = [item for item in self.waiting if item[1].request_id == request_id]
        assert self.queue.remove(request_id) == bool(here)
        for item in here:
            self.waiting.remove(item)
            self.gone.add(request_id)

    @rule()
    def expire(self) -> None:
        expired = [
            item
            for item in self.waiting
            if 0 < item[1].deadline <= self.now and not item[1].output_token_ids
        ]
        taken = {taken.request_id for taken in self.queue.take_expired(self.now)}
        assert taken == {item[1].request_id for item in expired}
        for item in expired:
            self.waiting.remove(item)
        self.gone |= taken

    @invariant()
    def shows_the_right_one(self) -> None:
        assert len(self.queue) == len(self.waiting)
        head = self.queue.peek(self.now)
        if head is None:
            assert not self.waiting
            return
        assert head.request_id == min(self.waiting, key=self.rank)[1].request_id
        assert head.request_id not in self.gone


QueueAgainstReference.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestQueueAgainstReference = QueueAgainstReference.TestCase


@given(
    distance=st.integers(1, 2000),
    ageing=st.floats(0.5, 60.0),
    tick=st.floats(0.05, 5.0),
    num_tenants=st.integers(1, 3),
)
@settings(deadline=None, max_examples=50)
def test_nobody_starves(distance: int, ageing: float, tick: float, num_tenants: int):
    """One place, one newer request of a higher class for every one that is served."""
    queue = WaitingQueue(8, ageing)
    queue.push(a_request("batch", priority=distance - 1000, tenant="old", arrival_time=1.0))
    queue.charge("old", 1e9)
    limit = math.ceil(distance / PRIORITY_STEP + 1) * ageing
    now, number, served = 1.0, 0, ""
    while served != "batch":
        assert now <= 1.0 + limit + tick
        number += 1
        tenant = str(number % num_tenants)
        queue.push(a_request(str(number), priority=-1000, tenant=tenant, arrival_time=now))
        served = queue.pop(now).request_id
        now += tick


@given(
    num_requests=st.tuples(st.integers(1, 10), st.integers(1, 10)),
    longest=st.tuples(st.integers(1, 1000), st.integers(1, 1000)),
    num_places=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=50)
def test_tenants_get_equal_shares_of_tokens(
    num_requests: tuple[int, int], longest: tuple[int, int], num_places: int, seed: int
):
    """However many requests each keeps waiting, and however long they are. With one place the
    difference is at most one request of each; every further place may add as much."""
    queue, rng = WaitingQueue(1000, 1e9), random.Random(seed)
    lengths: dict[str, int] = {}
    running: list[Request] = []
    totals = {"a": 0, "b": 0}

    def send(tenant: str) -> None:
        request_id = str(len(lengths))
        lengths[request_id] = rng.randint(1, longest["ab".index(tenant)])
        queue.push(a_request(request_id, tenant=tenant, arrival_time=float(len(lengths))))

    for tenant, count in zip("ab", num_requests, strict=True):
        for _ in range(count):
            send(tenant)
    for _ in range(300):
        while len(running) < num_places:
            running.append(queue.pop(0.0))
            send(running[-1].tenant)
        done = running.pop(0)
        for length in _pieces(lengths[done.request_id]):
            queue.charge(done.tenant, length)
        totals[done.tenant] += lengths[done.request_id]

        assert abs(totals["a"] - totals["b"]) <= sum(longest) * num_places


def _pieces(length: int) -> list[int]:
    return [length // 2, length - length // 2]


def test_staying_away_earns_no_credit():
    queue = WaitingQueue(100, AGEING)
    queue.push(a_request("a0", tenant="a"))
    queue.charge("a", 10_000)
    queue.push(a_request("b0", tenant="b"))
    queue.charge("b", 10)

    order = []
    for number in range(1, 7):
        for tenant in ("a", "b"):
            queue.push(a_request(f"{tenant}{number}", tenant=tenant, arrival_time=float(number)))
    for _ in range(6):
        served = queue.pop(6.0)
        order.append(served.tenant)
        queue.charge(served.tenant, 100)

    assert sorted(order) == ["a"] * 3 + ["b"] * 3


def test_the_first_request_of_many_tenants_comes_before_the_second_of_one():
    queue = WaitingQueue(100, AGEING)
    for number in range(5):
        queue.push(a_request(f"greedy-{number}", tenant="greedy", arrival_time=1.0))
    queue.push(a_request("modest", tenant="modest", arrival_time=2.0))

    first = queue.pop(2.0)
    queue.charge(first.tenant, 50)

    assert [first.tenant, queue.pop(2.0).tenant] == ["greedy", "modest"]


def test_requests_that_come_and_go_leave_nothing_behind():
    """Ten thousand tenants with far deadlines, none of which waits any more."""
    queue = WaitingQueue(16, AGEING)
    queue.push(a_request("stays", deadline=1e9))
    for number in range(10_000):
        queue.push(a_request(str(number), tenant=str(number), deadline=1e9 + number))
        queue.charge(queue.pop(0.0).tenant, 5)
        queue.remove(str(number))
        if not len(queue):
            queue.push(a_request("stays", deadline=1e9))

    assert len(queue._deadlines) <= 64
    assert len(queue._groups) == len(queue._entries) == 1
    assert queue._share.num_counters <= 2 * 4096


def test_a_choice_among_many_tenants_is_quick():
    """Well below a millisecond; the best of several, as others use the machine too."""
    queue = WaitingQueue(256, AGEING)
    for number in range(256):
        queue.push(a_request(str(number), tenant=str(number), arrival_time=float(number)))

    def timed() -> float:
        started = time.perf_counter()
        queue.peek(300.0)
        return time.perf_counter() - started

    assert min(timed() for _ in range(50)) < 1e-3
