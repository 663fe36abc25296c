"""GET /v1/organization/usage over real HTTP."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.settings.schema import AuthSettings, StoreSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.chat.answers import CHAT, HI, RESPONSES
from tests.kit.guarded import Guarded, error_of
from tests.kit.serving import MODEL, running_server, scripted_settings, wait_for

URL = "/v1/organization/usage/completions"
EMBEDDINGS = "/v1/organization/usage/embeddings"
HOUR = 3600

Used = tuple[Guarded, dict[str, list[Any]]]
"""A server, and the usage of the answers that its keys have got."""


@pytest.fixture(scope="module")
def used(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Used]:
    """A server whose keys have used something, and the usage of their answers."""
    folder = tmp_path_factory.mktemp("usage")
    keys = write_keys(folder / "keys.toml", alice={}, bob={}, boss={"role": "admin"})
    settings = scripted_settings(
        auth=AuthSettings(keys_file=str(folder / "keys.toml")),
        store=StoreSettings(path=str(folder / "store.db")),
    )
    with running_server(settings) as server:
        guarded = Guarded(server, keys)
        answers: dict[str, list[Any]] = {"alice": [], "bob": []}
        for name in ("alice", "bob", "alice"):
            answers[name].append(guarded.chat(name, max_tokens=4).json()["usage"])
        texts = guarded.post("/v1/embeddings", "bob", model=MODEL, input=["a", "bc"])
        assert texts.json()["usage"]["prompt_tokens"] > 0
        answers["texts"] = [texts.json()["usage"]]
        yield guarded, answers


def results(guarded: Guarded, name: str, query: str = "", path: str = URL) -> list[Any]:
    response = guarded.get(f"{path}?start_time={int(time.time()) - HOUR}{query}", name)
    assert response.status_code == 200, response.text
    return [each for bucket in response.json()["data"] for each in bucket["results"]]


def tokens(usage: list[Any]) -> tuple[int, int, int]:
    prompts = sum(each["prompt_tokens"] for each in usage)
    return len(usage), prompts, sum(each.get("completion_tokens", 0) for each in usage)


def told(results: list[Any]) -> tuple[int, int, int]:
    names = ("num_model_requests", "input_tokens", "output_tokens")
    requests, prompts, answers = (sum(each.get(n, 0) for each in results) for n in names)
    return requests, prompts, answers


def test_a_key_sees_its_own_and_an_admin_all(used: Used) -> None:
    guarded, answers = used
    for name in ("alice", "bob"):
        assert told(results(guarded, name)) == tokens(answers[name])
    assert told(results(guarded, "boss")) == tokens(answers["alice"] + answers["bob"])
    by_key = results(guarded, "boss", "&group_by=api_key_id&group_by[]=model")
    assert {each["api_key_id"]: told([each]) for each in by_key} == {
        name: tokens(answers[name]) for name in ("alice", "bob")
    }
    assert {each["model"] for each in by_key} == {MODEL}
    assert results(guarded, "alice", "&api_key_ids=bob") == []
    assert results(guarded, "alice", path=EMBEDDINGS) == []
    for name in ("bob", "boss"):
        assert told(results(guarded, name, path=EMBEDDINGS)) == tokens(answers["texts"])


def test_nobody_without_a_key_sees_anything(used: Used) -> None:
    for path in (URL, EMBEDDINGS):
        assert used[0].get(f"{path}?start_time=1").status_code == 401


def test_the_official_client(used: Used) -> None:
    guarded, _ = used
    with openai.OpenAI(
        base_url=f"{guarded.server.url}/v1",
        api_key="none",
        admin_api_key=guarded.keys["boss"],
        _strict_response_validation=True,
    ) as client:
        usage = client.admin.organization.usage
        start = int(time.time()) - 2 * HOUR
        page = usage.completions(
            start_time=start,
            bucket_width="1h",
            group_by=["model", "api_key_id", "batch"],
            models=[MODEL, "other"],
            api_key_ids=["alice", "bob"],
            batch=False,
            limit=1,
        )
        found: list[Any] = []
        while True:
            assert len(page.data) == 1
            found += page.data[0].results
            if not page.has_more:
                break
            page = usage.completions(
                start_time=start, bucket_width="1h", limit=1, page=page.next_page or ""
            )
        assert sum(each.num_model_requests for each in found) == 3
        texts = usage.embeddings(start_time=start, group_by=["project_id"])
        assert texts.data[-1].results[0].object == "organization.usage.embeddings.result"


@pytest.mark.parametrize("how", ["format", "accept"])
def test_csv(used: Used, how: str) -> None:
    guarded, answers = used
    query = f"{URL}?start_time={int(time.time()) - HOUR}&group_by=api_key_id"
    headers = bearer(guarded.keys["boss"])
    if how == "format":
        query += "&format=csv"
    else:
        headers["accept"] = "text/csv"
    response = guarded.server.http.get(query, headers=headers)
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    head, *lines = response.text.splitlines()
    assert head.split(",")[:5] == [
        *("start_time", "end_time", "api_key_id", "num_model_requests", "input_tokens")
    ]
    requests, prompts, _ = tokens(answers["alice"])
    [of_alice] = [line.split(",") for line in lines if ",alice," in line]
    assert of_alice[2:5] == ["alice", str(requests), str(prompts)]


def test_csv_says_which_page_follows(used: Used) -> None:
    response = used[0].get(f"{URL}?start_time=0&format=csv&limit=3", "boss")
    assert response.headers["x-next-page"] == f"page_{3 * 24 * HOUR}"


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ("", "missing_required_parameter", "start_time"),
        ("start_time=soon", "invalid_type", "start_time"),
        ("start_time=-1", "invalid_value", "start_time"),
        ("start_time=100000000001", "invalid_value", "start_time"),
        ("start_time=9&end_time=9", "invalid_value", "end_time"),
        ("start_time=1&bucket_width=1m", "invalid_value", "bucket_width"),
        ("start_time=1&bucket_width=1w", "invalid_value", "bucket_width"),
        ("start_time=1&group_by=service_tier", "invalid_value", "group_by[0]"),
        ("start_time=1&group_by=", "invalid_value", "group_by[0]"),
        ("start_time=1&limit=0", "invalid_value", "limit"),
        ("start_time=1&limit=32", "invalid_value", "limit"),
        ("start_time=1&bucket_width=1h&limit=169", "invalid_value", "limit"),
        ("start_time=1&page=5", "invalid_value", "page"),
        ("start_time=1&page=page_5", "invalid_value", "page"),
        ("start_time=1&format=xml", "invalid_value", "format"),
        ("start_time=1&batch=perhaps", "invalid_type", "batch"),
        ("start_time=1&project_ids=a", "unsupported_parameter", "project_ids"),
        ("start_time=1&user_ids[]=a", "unsupported_parameter", "user_ids"),
        ("start_time=1&" + "models=a&" * 101, "invalid_value", "models"),
        ("start_time=1&models=" + "a" * 257, "invalid_value", "models[0]"),
    ],
)
def test_bad_parameters(used: Used, query: str, code: str, param: str) -> None:
    response = used[0].get(f"{URL}?{query}", "boss")
    assert error_of(response) == (400, code, param)


def test_embeddings_have_no_batches_and_unknown_names_are_reported(used: Used) -> None:
    response = used[0].get(f"{EMBEDDINGS}?start_time=1&group_by=batch", "boss")
    assert error_of(response) == (400, "invalid_value", "group_by[0]")
    response = used[0].get(f"{EMBEDDINGS}?start_time=1&batch=true&what=1", "boss")
    assert response.headers["x-ignored-parameters"] == "batch, what"


def test_minutes_are_refused_with_a_reason(used: Used) -> None:
    response = used[0].get(f"{URL}?start_time=1&bucket_width=1m", "boss")
    assert "by the hour" in response.json()["error"]["message"]


def test_without_a_store_the_server_says_since_when_it_counts() -> None:
    before = int(time.time())
    with running_server(scripted_settings(store=StoreSettings(enabled=False))) as server:
        usage = server.post(CHAT, messages=HI, max_tokens=3).json()["usage"]
        page = server.http.get(URL, params={"start_time": before}).json()
        assert before <= page["kept_since"] <= time.time()
        assert told([r for each in page["data"] for r in each["results"]]) == tokens([usage])
        stored = server.http.get(EMBEDDINGS, params={"start_time": before, "format": "csv"})
        assert len(stored.text.splitlines()) == 1


def test_with_a_store_it_does_not(used: Used) -> None:
    assert "kept_since" not in used[0].get(f"{URL}?start_time=1", "boss").json()


def test_a_wrong_request_uses_nothing(tmp_path: Path) -> None:
    store = StoreSettings(path=str(tmp_path / "store.db"))
    with running_server(scripted_settings(store=store)) as server:
        assert server.post(CHAT, messages=HI, temperature=9).status_code == 400
        assert server.post(CHAT, messages=HI, model="other").status_code == 404
        page = server.http.get(URL, params={"start_time": int(time.time())}).json()
        assert [bucket["results"] for bucket in page["data"]] == [[]]


def test_a_response_in_the_background_counts_once_for_its_key(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.toml", alice={}, spender={"tokens_per_day": 1})
    settings = scripted_settings(
        auth=AuthSettings(keys_file=str(tmp_path / "keys.toml")),
        store=StoreSettings(path=str(tmp_path / "store.db")),
    )
    body = {"model": MODEL, "input": "hi", "max_output_tokens": 5, "background": True}
    with running_server(settings) as server:
        guarded = Guarded(server, keys)
        response_id = guarded.post(RESPONSES, "alice", **body).json()["id"]

        def usage() -> Any:
            return guarded.get(f"{RESPONSES}/{response_id}", "alice").json().get("usage")

        wait_for(usage)
        [counted] = results(guarded, "alice", "&group_by=endpoint")
        assert counted["endpoint"] == RESPONSES
        assert told([counted]) == (1, usage()["input_tokens"], usage()["output_tokens"])

        assert guarded.chat("spender").status_code == 200
        refused = guarded.post(RESPONSES, "spender", **body)
        assert error_of(refused) == (429, "insufficient_quota", None)
