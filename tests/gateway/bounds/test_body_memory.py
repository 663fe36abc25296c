"""The memory of all bodies together."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bounds.body_memory import FREE_BYTES, BodyMemory, give_back, keep, shrink
from gateway.errors import GatewayOverloaded, to_reply

LARGE = FREE_BYTES + 1


def test_a_body_that_is_one_too_many_is_refused_for_a_while():
    memory = BodyMemory(2 * LARGE)
    scopes = [{}, {}, {}]
    for scope in scopes[:2]:
        memory.lease(scope).grow_to(LARGE)
    with pytest.raises(GatewayOverloaded, match=r"server\.max_bodies_bytes") as caught:
        memory.lease(scopes[2]).grow_to(LARGE)
    reply = to_reply(caught.value, "r")
    assert (reply.status, reply.body.code) == (503, "gateway_overloaded")
    assert reply.headers["retry-after"] == "1"
    give_back(scopes[0])
    memory.lease(scopes[2]).grow_to(LARGE)
    assert (memory.num_bytes, memory.num_refused) == (2 * LARGE, 1)


def test_small_bodies_are_never_refused():
    memory = BodyMemory(1)
    for _ in range(100):
        memory.lease({}).grow_to(FREE_BYTES)
    assert memory.num_bytes == 0


@given(st.lists(st.lists(st.integers(0, 4 * LARGE), max_size=6), max_size=6))
def test_all_that_is_taken_is_given_back(growths: list[list[int]]):
    memory = BodyMemory(8 * LARGE)
    scopes: list[dict[str, object]] = [{} for _ in growths]
    for scope, sizes in zip(scopes, growths, strict=True):
        lease = memory.lease(scope)
        for size in sizes:
            try:
                lease.grow_to(size)
            except GatewayOverloaded:
                break
            assert memory.num_bytes <= memory.max_bytes
    for scope in [*scopes, *scopes, {}]:
        give_back(scope)
    assert memory.num_bytes == 0


@given(st.integers(0, 4 * LARGE), st.integers(0, 4 * LARGE))
def test_what_is_kept_of_a_body_is_held_to_the_end(size: int, kept: int):
    memory = BodyMemory(8 * LARGE)
    scope: dict[str, object] = {}
    memory.lease(scope).grow_to(size)
    keep(scope, kept)
    for _ in range(2):
        shrink(scope)
        assert memory.num_bytes == (min(size, kept) if size > FREE_BYTES else 0)
    give_back(scope)
    assert memory.num_bytes == 0


def test_whoever_wants_to_know_hears_when_a_large_body_is_freed():
    freed: list[int] = []
    memory = BodyMemory(4 * LARGE, lambda: freed.append(memory.num_bytes))
    scopes: list[dict[str, object]] = [{}, {}]
    for scope, size in zip(scopes, (FREE_BYTES, LARGE), strict=True):
        memory.lease(scope).grow_to(size)
    for scope in [*scopes, *scopes]:
        give_back(scope)
    assert freed == [0], "once, when nothing of it is left"
