"""How soon, as whose, until when: the parameters that change no answer."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.api.openai.translate.job import chat_wish, completion_wish
from gateway.generation.scheduling import Caller, Scheduling, scheduling_of, served_tier
from gateway.observability.request_record import key_fingerprint
from runtime.errors import InvalidRequest
from runtime.messages.request import PRIORITY_STEP
from tests.kit.jobs import chat, completion

ORIGIN = Caller(
    arrival_time=50.0,
    unix_time=1_000_000.0,
    key_fingerprint="fingerprint",
    max_queue_seconds=600.0,
    prefix_caching="shared",
)


def scheduling(caller: Caller = ORIGIN, **fields: Any) -> Scheduling:
    """The same on both endpoints."""
    of_chat = scheduling_of(chat_wish(chat(**fields)), caller)
    assert scheduling_of(completion_wish(completion(**fields)), caller) == of_chat
    return of_chat


def test_defaults():
    assert scheduling() == Scheduling(
        priority=0, tenant="fingerprint", cache_salt="", arrival_time=50.0, deadline=650.0
    )


@pytest.mark.parametrize(
    ("value", "priority"),
    [
        ("interactive", -PRIORITY_STEP),
        ("normal", 0),
        ("batch", PRIORITY_STEP),
        (-1000, -1000),
        (7, 7),
        (1000, 1000),
    ],
)
def test_priorities_by_name_and_by_number(value, priority):
    assert scheduling(priority=value).priority == priority


@pytest.mark.parametrize(
    "value", ["urgent", "", "0", 1.5, 0.0, True, 5000, -1001, 10**30, [], {"a": 1}]
)
def test_other_priorities_are_refused_with_what_is_allowed(value):
    with pytest.raises(InvalidRequest) as refused:
        scheduling(priority=value)

    assert refused.value.param == "priority"
    for allowed in ('"interactive"', '"normal"', '"batch"', "-1000", "1000"):
        assert allowed in str(refused.value)


@pytest.mark.parametrize(
    ("tier", "priority", "served"),
    [
        ("flex", PRIORITY_STEP, "flex"),
        ("priority", -PRIORITY_STEP, "priority"),
        ("auto", 0, "default"),
        ("default", 0, "default"),
        ("scale", 0, "default"),
        ("fast", 0, "default"),
        (None, 0, None),
    ],
)
def test_service_tiers_are_classes(tier, priority, served):
    wish = chat_wish(chat(service_tier=tier))

    assert scheduling_of(wish, ORIGIN).priority == priority
    assert served_tier(wish, scheduling_of(wish, ORIGIN)) == served


def test_an_explicit_priority_wins_over_the_tier():
    wish = chat_wish(chat(service_tier="flex", priority="normal"))

    assert scheduling_of(wish, ORIGIN).priority == 0
    assert served_tier(wish, scheduling_of(wish, ORIGIN)) == "default"


def test_a_deadline_becomes_a_time_of_the_monotonic_clock():
    assert scheduling(deadline=1_000_010.5).deadline == pytest.approx(60.5)
    assert scheduling(deadline=1_000_010).deadline == 60.0
    assert scheduling(deadline=1_000_000).deadline == 50.0


def test_no_deadline_is_later_than_the_settings_allow():
    assert scheduling(deadline=1e308).deadline == 650.0
    assert scheduling(replace(ORIGIN, max_queue_seconds=5.0), deadline=1_000_010).deadline == 55.0


def test_a_deadline_in_the_past_is_refused_with_how_far():
    with pytest.raises(InvalidRequest, match=r"12\.5 seconds in the past") as refused:
        scheduling(deadline=999_987.5)

    assert refused.value.param == "deadline"


def test_tenants():
    assert scheduling(user="ann").tenant == "ann"
    assert scheduling(user="").tenant == "fingerprint"
    assert scheduling(replace(ORIGIN, key_fingerprint="")).tenant == ""
    wish = chat_wish(chat(user="ann", safety_identifier="id"))
    assert scheduling_of(wish, ORIGIN).tenant == "id"


def test_a_long_name_costs_no_more_than_a_hash():
    assert scheduling(user="ä" * 64).tenant == "ä" * 64
    assert scheduling(user="ä" * 65).tenant == hashlib.sha256(("ä" * 65).encode()).hexdigest()


@given(st.lists(st.tuples(*[st.text(max_size=3)] * 2, st.text(min_size=1, max_size=3)), min_size=2))
def test_salts_of_different_tenants_never_meet(combinations: list[tuple[str, str, str]]):
    """Where prefixes are per tenant; elsewhere the client's salt is all."""
    salts = set()
    for key, user, salt in combinations:
        caller = replace(ORIGIN, key_fingerprint=key, prefix_caching="per_tenant")
        salts.add(scheduling(caller, user=user, cache_salt=salt).cache_salt)
        if not salt.startswith("["):
            assert scheduling(user=user, cache_salt=salt).cache_salt == salt

    assert len(salts) == len({(key, user or key, salt) for key, user, salt in combinations})


ADAPTERS = st.sampled_from(["", "a", "b", '","'])
SALTS = st.sampled_from([None, "s", "[", '["a",""]', '["","a",""]', '["a","s"]'])


@given(
    st.sets(st.tuples(ADAPTERS, SALTS, st.sampled_from(["", "ann", "a"])), min_size=2),
    st.sampled_from(["shared", "per_tenant"]),
)
def test_prefixes_of_different_adapters_never_meet(combinations, prefix_caching):
    """Nor those of the model itself; whatever salts clients send."""
    caller = replace(ORIGIN, prefix_caching=prefix_caching)
    found = {
        (lora, salt, user if prefix_caching == "per_tenant" else ""): scheduling_of(
            chat_wish(chat(user=user or None, cache_salt=salt)), caller, lora
        )
        for lora, salt, user in combinations
    }

    assert len({served.cache_salt for served in found.values()}) == len(found)
    assert all(served.lora == lora for (lora, _, _), served in found.items())


def test_prefixes_per_tenant_are_separate_without_a_salt_too():
    caller = replace(ORIGIN, prefix_caching="per_tenant")

    assert scheduling(caller, user="a").cache_salt != scheduling(caller, user="b").cache_salt
    assert scheduling(caller, user="a").cache_salt == scheduling(caller, user="a").cache_salt


def test_a_key_leaves_a_fingerprint_and_nothing_else():
    def fingerprint(value: bytes) -> str:
        return key_fingerprint([(b"host", b"x"), (b"authorization", value)])

    assert len(fingerprint(b"Bearer secret")) == 16
    assert "secret" not in fingerprint(b"Bearer secret")
    assert fingerprint(b"bearer  secret ") == fingerprint(b"Bearer secret")
    assert fingerprint(b"Bearer other") != fingerprint(b"Bearer secret")
    for none in (b"", b"Bearer", b"Bearer ", b"Basic c2VjcmV0"):
        assert fingerprint(none) == ""
    assert key_fingerprint([]) == ""
