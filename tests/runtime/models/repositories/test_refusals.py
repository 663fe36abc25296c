"""Answers of the hub that are no success: one clear error each, and patience where it helps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ModelNotFound, PullError, SetupError
from runtime.models.repositories import client
from runtime.models.repositories.client import HubClient
from runtime.models.repositories.place import find_place
from runtime.models.repositories.problems import problem
from tests.kit.hub.server import FakeHub, Fault
from tests.kit.hub.stores import OpenStore

FILES = {"m-Q4_K_M.gguf": b"GGUF and more", "README.md": b"card"}


@pytest.fixture(autouse=True)
def repositories(hub: FakeHub) -> None:
    hub.add("u/r", dict(FILES))
    hub.add("u/private", dict(FILES), is_private=True)
    hub.add("u/gated", dict(FILES), is_gated=True)
    hub.tokens = {"opens": {"u/private", "u/gated"}, "stranger": set()}


@pytest.mark.parametrize(
    ("token", "name", "kind", "words"),
    [
        ("", "u/none", ModelNotFound, "has no repository u/none, or it is private: .*HF_TOKEN"),
        ("", "u/private", ModelNotFound, "no repository u/private, .*HF_TOKEN"),
        ("stranger", "u/private", ModelNotFound, "the token that is used does not open it"),
        ("", "u/gated", PullError, "u/gated is gated: .*licence at .*/u/gated. Then set HF_TOKEN"),
        ("stranger", "u/gated", PullError, "u/gated is gated: .*account that has not been let in"),
        ("wrong", "u/r", PullError, r"refuses the token: Invalid credentials.*HF_TOKEN"),
        ("", "u/r:Q5_K_M", ModelNotFound, r"no quantisation Q5_K_M\. It has: Q4_K_M"),
        ("", "u/r/other.gguf", ModelNotFound, r"no file other\.gguf\. It has: m-Q4_K_M\.gguf"),
    ],
)
def test_what_cannot_be_had_is_said(
    store: OpenStore,
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    name: str,
    kind: type[SetupError],
    words: str,
):
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(kind, match=words):
        store().pull(name)
    assert not store().find(name).is_present


@pytest.mark.parametrize("name", ["u/private", "u/gated"])
def test_a_token_opens_and_goes_to_the_hub_alone(
    hub: FakeHub, store: OpenStore, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setenv("HF_TOKEN", "opens")
    assert store().pull(name).read_bytes() == FILES["m-Q4_K_M.gguf"]
    asked = [seen.authorization for seen in hub.requests if seen not in hub.downloads()]
    assert set(asked) == {"Bearer opens"}
    assert [seen.authorization for seen in hub.downloads()] == [None]


@pytest.mark.parametrize("where", ["/refs", "/tree/", "/resolve/", "/store/"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_an_overloaded_hub_is_asked_again(hub: FakeHub, store: OpenStore, where: str, status: int):
    labels: list[str] = []
    hub.faults = [Fault(where, times=2, status=status, headers={"Retry-After": "0"})]
    store().pull("u/r", lambda done, total, label: labels.append(label))
    assert sum(f"({status}); it asks to come again in 0 seconds" in label for label in labels) == 2


@pytest.mark.parametrize("where", ["/refs", "/tree/", "/resolve/", "/store/"])
def test_one_that_stays_so_is_given_up(hub: FakeHub, store: OpenStore, where: str):
    hub.faults = [Fault(where, times=100, status=503)]
    with pytest.raises(PullError, match=r"does not work at the moment \(503\)"):
        store().pull("u/r")
    assert not store().find("u/r").is_present


@pytest.mark.parametrize("where", ["/refs", "/resolve/"])
def test_a_long_pause_is_not_waited_for(hub: FakeHub, store: OpenStore, where: str):
    hub.faults = [Fault(where, status=429, headers={"Retry-After": "300"})]
    with pytest.raises(PullError, match=r"too often \(429\); it asks to come again in 300 seconds"):
        store().pull("u/r")


@pytest.mark.parametrize("status", [400, 403, 405, 410, 418])
def test_any_other_answer_is_named(hub: FakeHub, store: OpenStore, status: int):
    hub.faults = [Fault("/refs", status=status, headers={"X-Error-Message": "No, thank you"})]
    with pytest.raises(PullError, match=rf"answered {status} \(No, thank you\)"):
        store().pull("u/r")


def test_a_file_that_has_gone_meanwhile_is_named(hub: FakeHub, store: OpenStore):
    hub.faults = [Fault("/resolve/", status=404, headers={"X-Error-Code": "EntryNotFound"})]
    with pytest.raises(PullError, match="no longer in u/r"):
        store().pull("u/r")


def test_what_is_no_listing_is_an_error(hub: FakeHub, store: OpenStore):
    for where, body in (
        ("/refs", b"<html>"),
        ("/tree/", b'[{"type":"file","path":"a","oid":"../x"}]'),
    ):
        hub.faults = [Fault(where, status=200, body=body)]
        with pytest.raises(PullError, match="answer cannot be read"):
            store().pull("u/r")


def test_a_repository_may_not_have_endless_files(
    hub: FakeHub, store: OpenStore, monkeypatch: pytest.MonkeyPatch
):
    hub.page_size = 1
    monkeypatch.setattr(client, "_MAX_PAGES", 1)
    with pytest.raises(PullError, match="more files than"):
        store().pull("u/r")


@pytest.mark.parametrize(
    "endpoint",
    ["http://127.0.0.1:9", "http://no-such-host.invalid", "nothing", "ftp://x", "http://["],
)
def test_a_hub_out_of_reach_is_named_at_once(
    store: OpenStore, monkeypatch: pytest.MonkeyPatch, endpoint: str
):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    pauses: list[float] = []
    monkeypatch.setattr(client.time, "sleep", pauses.append)
    with pytest.raises(PullError, match=r"^" + endpoint.replace("[", r"\[")):
        store().pull("u/r")
    assert pauses == []


def test_the_pauses_grow():
    pauses: list[float] = []
    patient = HubClient(find_place({}), pause=pauses.append)

    def refuse() -> None:
        raise problem(503, {}, "u/r", "hub", has_token=False)

    with pytest.raises(PullError):
        patient.patiently(refuse)
    patient.close()
    assert pauses == sorted(set(pauses))
    assert len(pauses) == 3


@given(
    st.integers(300, 599),
    st.fixed_dictionaries(
        {},
        optional={
            "x-error-code": st.sampled_from(
                ["RepoNotFound", "GatedRepo", "EntryNotFound", "RevisionNotFound", "Other"]
            ),
            "x-error-message": st.text(max_size=9),
            "retry-after": st.sampled_from(["1", "x", "-1", "Wed, 21 Oct 2026 07:28:00 GMT", "²"]),
        },
    ),
    st.booleans(),
)
def test_every_answer_has_words(status: int, headers: dict[str, str], has_token: bool):
    for repository in ("u/r", ""):
        error = problem(status, headers, repository, "https://hub", has_token=has_token)
        assert isinstance(error, SetupError)
        assert str(error).strip()
