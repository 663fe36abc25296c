"""Conversations that are summed up, on a real server."""

import time
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.api.openai.responses.compaction.content import read
from gateway.api.openai.responses.compaction.summary import INSTRUCTION, MAX_TOKENS
from gateway.settings.schema import AuthSettings, ServerSettings
from tests.kit.api_keys import bearer, write_keys
from tests.kit.openai.responses import URL, fold, parse
from tests.kit.openai.schemas import check_answer
from tests.kit.serving import (
    MODEL,
    RunningServer,
    raw_request,
    running_server,
    scripted_settings,
    server_of,
    wait_for,
)

COMPACT = f"{URL}/compact"
SAID = "Hello there, friend. "

server = server_of(scripted_settings(engine={"max_model_len": 4000}, text=SAID, num_tokens=40))


def exchanges(number: int, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"role": role, "content": f"{role} {index} " * 4}
        for index in range(first, first + number)
        for role in ("user", "assistant")
    ]


def managed(threshold: int | None = 1000) -> list[dict[str, Any]]:
    return [{"type": "compaction", "compact_threshold": threshold}]


def question(text: str = "And now?") -> dict[str, Any]:
    return {"role": "user", "content": text}


def count(server: RunningServer, **body: Any) -> int:
    num_tokens: int = server.post(f"{URL}/input_tokens", **body).json()["input_tokens"]
    return num_tokens


def test_a_conversation_is_summed_up(server: RunningServer):
    """The summary is read in place of the conversation, with the user's last messages."""
    items = exchanges(20)
    response = server.post(COMPACT, input=items, instructions="Be short.")
    answer = response.json()

    assert response.status_code == 200
    [item] = answer["output"]
    check_answer("CompactionBody", item)
    check_answer("ResponseUsage", answer["usage"])
    assert (answer["object"], item["type"]) == ("response.compaction", "compaction")
    asked = [*items, question(INSTRUCTION)]
    assert answer["usage"]["input_tokens"] == count(server, input=asked, instructions="Be short.")
    summary = read(item["encrypted_content"], "")
    assert summary.text
    asked = [each["content"] for each in items[::2]]
    assert summary.messages == tuple(asked[-len(summary.messages) :])
    assert 1 <= len(summary.messages) < 20
    assert summary.text in SAID * 4
    later = server.post(URL, input=[*answer["output"], question()]).json()
    assert later["status"] == "completed"
    assert later["usage"]["input_tokens"] < answer["usage"]["input_tokens"] / 2
    again = server.post(COMPACT, input=items, instructions="Be short.").json()
    assert again["output"][-1]["encrypted_content"] == item["encrypted_content"]


def test_the_official_client_compacts_and_goes_on(server: RunningServer):
    client = openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    )
    first = client.responses.create(model=MODEL, input="Who wrote Emma?")
    compacted = client.responses.compact(model=MODEL, previous_response_id=first.id)

    assert compacted.output[-1].type == "compaction"
    items: Any = [item.model_dump(exclude_none=True) for item in compacted.output]
    later = client.responses.create(model=MODEL, input=[*items, question()])
    assert later.status == "completed"
    following = client.responses.create(
        model=MODEL, input="And Persuasion?", previous_response_id=later.id
    )
    assert following.status == "completed"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"),
        ({}, "input"),
        ({"input": None, "instructions": "Be short."}, "input"),
        ({"input": [{"type": "message", "role": "nobody", "content": "x"}]}, "input[0].role"),
        ({"input": "hi", "previous_response_id": "resp_none"}, "previous_response_id"),
        ({"input": "hi", "messages": [{"role": "user", "content": "hi"}]}, "messages"),
        ({"input": "hi", "stream": True}, "stream"),
        ({"input": "hi", "truncation": "middle"}, "truncation"),
    ],
)
def test_what_cannot_be_summed_up_is_refused(
    server: RunningServer, body: dict[str, Any], param: str
):
    error = server.post(COMPACT, **body).json()["error"]
    assert error["param"] == param


def test_what_agents_send_along_is_named_as_without_effect(server: RunningServer):
    response = server.post(COMPACT, input="hi", tools=[], reasoning={"effort": "low"}, text={})

    assert response.status_code == 200
    ignored = response.headers["x-ignored-parameters"].split(", ")
    assert {"tools", "reasoning", "text"} <= set(ignored)


def test_what_is_too_long_to_be_summed_up_is_refused_or_shortened(server: RunningServer):
    items = exchanges(100)
    error = server.post(COMPACT, input=items).json()["error"]
    assert error["code"] == "context_length_exceeded"
    response = server.post(COMPACT, input=items, truncation="auto")
    assert response.status_code == 200
    assert int(response.headers["x-dropped-items"]) > 50


def test_a_broken_item_is_refused_by_its_place(server: RunningServer):
    item = {"type": "compaction", "id": "cmp_1", "encrypted_content": "lockgate.1.AAAA"}
    for path in (URL, COMPACT, f"{URL}/input_tokens"):
        error = server.post(path, input=[question("hi"), item, question()]).json()["error"]
        assert error["param"] == "input[1].encrypted_content"


def test_a_long_conversation_is_summed_up_before_it_is_answered(server: RunningServer):
    items = [*exchanges(20), question()]
    response = server.post(URL, input=items, context_management=managed(), instructions="Be short.")
    answer = response.json()

    check_answer("Response", answer)
    item, said = answer["output"]
    assert (item["type"], said["type"]) == ("compaction", "message")
    summary = read(item["encrypted_content"], "")
    assert 1 <= summary.num_kept < 10
    asked = [*items[: -summary.num_kept], question(INSTRUCTION)]
    own = count(server, input=[*items, item], instructions="Be short.")
    usage = answer["usage"]
    assert usage["input_tokens"] == count(server, input=asked, instructions="Be short.") + own
    assert usage["output_tokens"] == 2 * 41
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert own < 1000


def test_the_next_turn_goes_on_from_the_summary(server: RunningServer):
    """Sent whole, without what was summed up, or by the id: it is the same prompt, which begins as
    the last one did."""
    items = [*exchanges(20), question()]
    answer = server.post(URL, input=items, context_management=managed()).json()
    item = answer["output"][0]
    kept = read(item["encrypted_content"], "").num_kept
    more = [*answer["output"], question("More")]
    body = {"context_management": managed(), "max_output_tokens": 20}
    whole = server.post(URL, **body, input=[*items, *more]).json()
    short = server.post(URL, **body, input=[*items[-kept:], *more]).json()
    by_id = server.post(
        URL, **body, input=[question("More")], previous_response_id=answer["id"]
    ).json()

    told = [each["output"][-1]["content"] for each in (whole, short, by_id)]
    assert told[0] == told[1] == told[2]
    assert [len(each["output"]) for each in (whole, short, by_id)] == [1, 1, 1]
    used = [each["usage"]["input_tokens"] for each in (whole, short, by_id)]
    assert used[0] == used[1] == used[2] < 1000


def test_streams_begin_with_the_summary(server: RunningServer):
    body = {"input": [*exchanges(20), question()], "context_management": managed()}
    events = parse(server.post(URL, **body, stream=True).text)
    end = fold(events)

    assert [item["type"] for item in end["output"]] == ["compaction", "message"]
    assert events[2]["item"] == events[3]["item"] == end["output"][0]
    whole = server.post(URL, **body).json()
    assert end["usage"] == whole["usage"]
    assert end["output"][1]["content"] == whole["output"][1]["content"]


def test_summaries_follow_upon_each_other(server: RunningServer):
    """A conversation of any length stays below its threshold."""
    previous, num_compactions = None, 0
    for number in range(60):
        response = server.post(
            URL,
            input=f"Question {number}: " + "what is it? " * 5,
            previous_response_id=previous,
            context_management=managed(1000),
        )
        answer = response.json()
        assert response.status_code == 200, response.text
        previous = answer["id"]
        num_compactions += answer["output"][0]["type"] == "compaction"
        if answer["output"][0]["type"] == "message":
            assert answer["usage"]["input_tokens"] <= 1000
    assert 3 <= num_compactions <= 30


@pytest.mark.parametrize("threshold", [managed(None), [], None])
def test_what_is_short_is_left_alone(server: RunningServer, threshold: Any):
    answer = server.post(URL, input=exchanges(20), context_management=threshold).json()
    assert [item["type"] for item in answer["output"]] == ["message"]


def test_without_a_threshold_the_model_decides(server: RunningServer):
    answer = server.post(URL, input=exchanges(55), context_management=managed(None)).json()
    assert [item["type"] for item in answer["output"]] == ["compaction", "message"]


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([{"type": "forgetting"}], "context_management[0].type"),
        (
            [{"type": "compaction", "compact_threshold": 0}],
            "context_management[0].compact_threshold",
        ),
        (managed() * 11, "context_management"),
    ],
)
def test_other_management_is_refused(server: RunningServer, value: Any, param: str):
    assert server.post(URL, input="hi", context_management=value).json()["error"]["param"] == param


def test_a_summary_of_nothing_is_an_error():
    with running_server(scripted_settings(text=" ", num_tokens=3)) as empty:
        error = empty.post(COMPACT, input="hi").json()["error"]
        assert error["type"] == "server_error"
        items = [*exchanges(30), question()]
        answer = empty.post(URL, input=items, context_management=managed()).json()
        assert [each["type"] for each in answer["output"]] == ["message"]
        alone = empty.post(URL, input=items).json()["usage"]
        assert answer["usage"]["input_tokens"] > alone["input_tokens"], "what was tried counts"


def test_a_summary_has_a_length():
    with running_server(scripted_settings(text=SAID)) as talker:
        answer = talker.post(COMPACT, input="hi").json()
        assert answer["usage"]["output_tokens"] == MAX_TOKENS


def test_a_key_pays_for_both(tmp_path: Path):
    keys = write_keys(tmp_path / "keys.toml", ada={"tokens_per_minute": 100_000})
    auth = AuthSettings(keys_file=str(tmp_path / "keys.toml"))
    with running_server(
        scripted_settings(auth=auth, engine={"max_model_len": 4000}, text=SAID, num_tokens=40)
    ) as keyed:
        keyed.http.headers.update(bearer(keys["ada"]))
        items = [*exchanges(20), question()]
        body = {"input": items, "context_management": managed(), "max_output_tokens": 50}
        used = keyed.post(URL, **body).json()["usage"]["total_tokens"]
        left = keyed.post(URL, input="hi", max_output_tokens=1)
        remaining = int(left.headers["x-ratelimit-remaining-tokens"])
        assert 100_000 - used - 200 < remaining < 100_000 - used + 4000
        since = int(time.time()) - 3600
        usage = keyed.http.get(f"/v1/organization/usage/completions?start_time={since}").json()
    results = [each for bucket in usage["data"] for each in bucket["results"]]
    counted = [each["input_tokens"] + each["output_tokens"] for each in results]
    assert sum(counted) == used + left.json()["usage"]["total_tokens"]
    assert sum(each["num_model_requests"] for each in results) == 3


def test_in_the_background_too(server: RunningServer):
    body = {"input": [*exchanges(20), question()], "context_management": managed()}
    made = server.post(URL, **body, background=True).json()
    ends: list[dict[str, Any]] = []

    def is_over() -> bool:
        ends.append(server.http.get(f"{URL}/{made['id']}").json())
        return ends[-1]["status"] not in ("queued", "in_progress")

    wait_for(is_over)
    assert [item["type"] for item in ends[-1]["output"]] == ["compaction", "message"]
    assert ends[-1]["usage"] == server.post(URL, **body).json()["usage"]


def test_conversations_keep_the_summary(server: RunningServer):
    items = [{**each, "content": 2 * each["content"]} for each in exchanges(10)]
    made = server.http.post("/v1/conversations", json={"items": items}).json()
    body = {"conversation": made["id"], "context_management": managed()}
    first = server.post(URL, input="And now?", **body).json()
    assert [item["type"] for item in first["output"]] == ["compaction", "message"]
    second = server.post(URL, input="More", **body).json()
    assert [item["type"] for item in second["output"]] == ["message"]
    assert second["usage"]["input_tokens"] < 1000
    copied = {"type": "compaction", "encrypted_content": "lockgate.1.AAAA"}
    error = server.http.post(f"/v1/conversations/{made['id']}/items", json={"items": [copied]})
    assert error.json()["error"]["param"] == "items[0].encrypted_content"


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_while_it_is_summed_up_frees_the_engine(stream: bool):
    with running_server(scripted_settings(text=SAID, step_ms=5)) as slow:
        with slow.connect() as connection:
            body = {
                "input": [*exchanges(20), question()],
                "context_management": managed(),
                "stream": stream,
            }
            connection.sendall(raw_request(URL, body))
            wait_for(lambda: slow.metric("num_requests_running") == 1)
        wait_for(lambda: slow.metric("requests_aborted_total") == 1)
        wait_for(lambda: slow.metric("num_requests_running") == 0)


def test_a_stream_that_waits_for_a_summary_is_kept_alive():
    quick = ServerSettings(keep_alive_interval=0.05)
    settings = scripted_settings(server=quick, text=SAID, num_tokens=100, step_ms=4)
    with running_server(settings) as slow:
        body = {"input": [*exchanges(20), question()], "context_management": managed()}
        text = slow.post(URL, **body, stream=True).text
    assert text.startswith(": keep-alive\n\n")
    assert fold(parse(text))["output"][0]["type"] == "compaction"
