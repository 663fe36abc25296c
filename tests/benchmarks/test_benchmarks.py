"""The serving benchmark's arithmetic and texts, and its client against a real server."""

import asyncio
import math
from typing import Any

import pytest
from comparison import OURS, PEER, compare, find_target
from llama_server import WITHOUT_REPACKING, LlamaServer
from measures import (
    DURING,
    FAILED,
    LATER_TURNS,
    MEASURES,
    RATE,
    Gap,
    Sample,
    gaps,
    gaps_before,
    gaps_during,
    take_sample,
    windows,
)
from server import ServerDied
from sessions import Answer, Ask, Client, Endpoint, Session, SessionsResult, run_sessions
from stats import mean, percentile
from wire import BadReply, RawReply, split_events, timed_events
from workloads import LONG, OTHERS, WORKLOADS, Long, MultiTurn, Short, Workload

from tests.kit.serving import MODEL, running_server, scripted_settings


class FakeClient(Client):
    """Answers "word" to everything at once, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Ask] = []

    async def ask(self, ask: Ask) -> Answer | None:
        self.asked.append(ask)
        if ask.on_text is not None:
            ask.on_text()
        await asyncio.sleep(0)
        return answer([0.0], text="word", label=ask.label)


def answer(times: list[float], **fields: Any) -> Answer:
    """An answer with a token an event, unless told otherwise."""
    defaults: dict[str, Any] = {
        "session": 0,
        "label": "",
        "sent_at": 0.0,
        "text": "x",
        "finish_reason": "length",
        "prompt_tokens": 10,
        "cached_tokens": 0,
        "completion_tokens": len(times),
    }
    return Answer(event_times=tuple(times), **{**defaults, **fields})


def result(*answers: Answer, seconds: float = 1.0, failures: int = 0) -> SessionsResult:
    return SessionsResult(list(answers), ["failed"] * failures, seconds=seconds)


async def asked_by(sessions: list[Session]) -> list[list[Ask]]:
    clients = [FakeClient() for _ in sessions]
    await asyncio.gather(*(run(client) for run, client in zip(sessions, clients, strict=True)))
    return [client.asked for client in clients]


def messages(workload: Workload, streams: int, round_number: int) -> list[list[Any]]:
    asked = asyncio.run(asked_by(workload.sessions(streams, round_number)))
    return [[(ask.messages, ask.max_tokens) for ask in asks] for asks in asked]


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_server_is_asked_the_same(name: str):
    workload = WORKLOADS[name]().brief()
    assert messages(workload, 3, 1) == messages(workload, 3, 1)


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_two_rounds_or_levels_begin_alike(name: str):
    """Else a prompt cache would answer the later one."""
    workload = WORKLOADS[name]().brief()
    firsts = [
        asks[0][0][0]["content"]
        for streams, round_number in ((2, 0), (2, 1), (2, 2), (4, 1))
        for asks in messages(workload, streams, round_number)[-1:]
    ]
    assert len(set(firsts)) == 4


def test_streams_of_a_load_differ_and_shared_prompts_do_not():
    short = messages(WORKLOADS["short"](), 4, 1)
    assert len({asks[0][0][0]["content"] for asks in short}) == 4
    shared = messages(WORKLOADS["shared"](), 4, 1)
    requests = [request for asks in shared for request, _ in asks]
    assert len({request[0]["content"] for request in requests}) == 1
    assert len({request[1]["content"] for request in requests}) == len(requests) == 8


def test_a_conversation_has_the_answers_that_were_given():
    (asks,) = messages(MultiTurn(num_turns=3), 1, 1)
    assert [len(request) for request, _ in asks] == [1, 3, 5]
    last = asks[-1][0]
    assert [message["role"] for message in last] == ["user", "assistant"] * 2 + ["user"]
    assert last[1]["content"] == "word"
    assert last[:3] == asks[1][0]


@pytest.mark.parametrize(("streams", "others"), [(1, 1), (2, 1), (4, 3)])
def test_the_long_prompt_comes_alone(streams: int, others: int):
    asked = asyncio.run(asked_by(Long(calm=0.0).sessions(streams, 1)))
    assert len(asked) == others + 1
    assert [ask.label for ask in asked[-1]] == [LONG]
    assert {ask.label for asks in asked[:-1] for ask in asks} == {OTHERS}


def test_the_others_go_on_until_the_long_prompt_is_answered_and_no_further_than_their_bound():
    asked = asyncio.run(asked_by(Long(calm=5.0, max_requests=3).sessions(2, 1)[:1]))
    assert [len(asks) for asks in asked] == [3]


def test_percentiles_are_of_the_nearest_rank():
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert percentile([4.0, 1.0, 3.0, 2.0], 95) == 4.0
    assert math.isnan(percentile([], 50))
    assert mean([1.0, 2.0]) == 1.5


def test_a_gap_for_each_token_after_the_first():
    found = gaps(answer([1.0, 1.5, 1.7]))
    assert [gap.milliseconds for gap in found] == pytest.approx([500, 200])
    assert gaps(answer([1.0])) == []


def test_tokens_that_came_together_share_their_gap():
    found = gaps(answer([1.0, 2.0, 3.0], completion_tokens=5))
    assert found == [Gap(1.0, 1.5), Gap(1.5, 2.0), Gap(2.0, 2.5), Gap(2.5, 3.0)]
    uneven = gaps(answer([1.0, 2.0, 3.0], completion_tokens=4))
    assert uneven == [Gap(1.0, 2.0), Gap(2.0, 2.5), Gap(2.5, 3.0)]


def test_more_events_than_tokens_are_a_token_each():
    assert len(gaps(answer([1.0, 2.0, 3.0], completion_tokens=2))) == 2


def test_windows_begin_when_all_stream_and_end_with_the_long_prompts_first_token():
    load = result(
        answer([1.0, 2.0, 3.0], label=OTHERS, session=0),
        answer([7.0, 8.0], label=OTHERS, session=0, sent_at=4.5),
        answer([1.5, 2.5, 4.0, 6.5], label=OTHERS, session=1),
        answer([6.0, 6.5], label=LONG, session=2, sent_at=3.0),
    )
    found = windows(load)
    assert found is not None
    assert (found.calm_from, found.long_from, found.long_to) == (1.5, 3.0, 6.0)
    # the gap from 1.0 to 2.0 has its middle at the beginning of the window, 4.0 to 6.5 before 6.0
    assert gaps_before(load) == [Gap(1.0, 2.0), Gap(2.0, 3.0), Gap(1.5, 2.5)]
    assert gaps_during(load) == [Gap(2.5, 4.0), Gap(4.0, 6.5)]
    sample = take_sample("long", load)
    assert sample[f"{DURING} p95"] == pytest.approx(2500)
    assert sample["during / before, p95"] == pytest.approx(2.5)
    assert sample["TTFT of the long prompt"] == pytest.approx(3000)
    assert sample["TTFT during p95"] == pytest.approx(2500)


def test_without_the_long_prompt_there_are_no_windows():
    load = result(answer([1.0, 2.0], label=OTHERS), failures=1)
    assert gaps_during(load) == gaps_before(load) == []
    assert math.isnan(take_sample("long", load)[f"{DURING} p95"])


def test_rates_count_the_tokens_that_came():
    load = result(answer([0.1, 0.2, 0.3]), answer([0.2], completion_tokens=7), seconds=2.0)
    assert take_sample("short", load)[RATE.name] == 5.0


def test_later_turns_leave_the_first_one_out():
    load = result(*(answer([float(turn)], label=f"turn {turn}") for turn in (1, 2, 3)))
    sample = take_sample("multiturn", load)
    assert sample["TTFT turn 1 p50"] == 1000
    assert sample[f"{LATER_TURNS} p50"] == 2000


def samples(workload: str, **values: float) -> Sample:
    return {measure.name: values.get(measure.name, 1.0) for measure in MEASURES[workload]}


def test_the_ratio_is_taken_within_rounds():
    """The third round was slow for both; the medians' ratio would be 1."""
    taken = {
        OURS: [samples("short", rate=rate) for rate in (20.0, 10.0, 4.0)],
        PEER: [samples("short", rate=rate) for rate in (10.0, 20.0, 2.0)],
    }
    row = compare("short", 4, taken)[0]
    assert (row.ours, row.peer, row.ratio) == (10.0, 10.0, 2.0)
    assert row.is_met is True


def test_targets_are_held_against_the_right_value():
    taken = {OURS: [samples("short", rate=13.0)], PEER: [samples("short", rate=10.0)]}
    assert [compare("short", n, taken)[0].is_met for n in (1, 8)] == [True, False]
    assert compare("short", 3, taken)[0].target == ""
    failed = {OURS: [samples("short", failed=1.0), samples("short", failed=0.0)]}
    row = compare("short", 1, failed)[-1]
    assert (row.measure, row.ours, row.is_met) == (FAILED.name, 1.0, False)


def test_without_a_peer_there_is_nothing_to_miss():
    row = compare("short", 1, {OURS: [samples("short")]})[0]
    assert (row.ours, row.peer, row.ratio, row.is_met) == (1.0, None, None, None)
    assert row.target == "ratio ≥ 1.25"


def test_what_could_not_be_measured_meets_no_target():
    target = find_target("long", f"{DURING} p95", 8)
    assert target is not None
    assert not target.is_met(math.nan)
    taken = {OURS: [samples("long") | {f"{DURING} p95": math.nan}], PEER: [samples("long")]}
    row = next(row for row in compare("long", 8, taken) if row.measure == f"{DURING} p95")
    assert (row.ours, row.ratio, row.is_met) == (None, None, False)


def test_a_bad_stream_is_told_from_one_that_speaks_of_errors():
    good = b'data: {"choices":[{"delta":{"content":"error"}}]}\n\ndata: [DONE]\n\n'
    assert len(split_events(good)) == 1
    for bad in (b'data: {"error":{}}\n\ndata: [DONE]\n\n', b"data: {}\n\n", b"event: error\n\n"):
        with pytest.raises(BadReply):
            split_events(bad)


def test_events_have_the_time_of_the_piece_that_ends_them():
    raw = RawReply()
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [head, b"8\r\ndata: 1", b"\n\r\n1\r\n\n\r\n", b"f\r\ndata: 2\n\ndata: ", b"\r\n"]
    pieces += [b"8\r\n[DONE]\n\n\r\n", b"0\r\n\r", b"\n"]
    ends = [raw.add(piece) for piece in pieces]
    assert ends == [False] * 7 + [True]
    raw.times[:] = [float(index) for index in range(8)]
    assert timed_events(raw) == [(2.0, b"data: 1"), (3.0, b"data: 2")]


def test_a_peer_that_dies_of_a_signal_is_started_without_repacking_once(tmp_path):
    """The stand-in dies of SIGSEGV, then, told not to repack, ends with a status of its own."""
    binary = tmp_path / "llama-server"
    binary.write_text(
        f'#!/bin/sh\ncase "$*" in *{WITHOUT_REPACKING}*) exit 3;; esac\nkill -11 $$\n'
    )
    binary.chmod(0o755)
    said: list[str] = []
    peer = LlamaServer(binary, tmp_path / "m.gguf", 2, 64, 1, ("--extra",), said.append)
    with pytest.raises(ServerDied, match="status 3"), peer.start():
        pass
    assert said == ["llama-server died of signal 11: --no-repack now"]
    assert peer.command(1)[-2:] == [WITHOUT_REPACKING, "--extra"]


@pytest.fixture(scope="module")
def endpoint():
    settings = scripted_settings(text="tick tock ", step_ms=1.0)
    with running_server(settings) as server:
        yield Endpoint(server.port, {"model": MODEL, "temperature": 0})


@pytest.mark.parametrize(
    "workload",
    [
        Short(num_requests=2, max_tokens=10),
        Long(max_tokens=20, num_words=20, calm=0.01),
        MultiTurn(num_turns=2, max_tokens=5),
    ],
    ids=lambda workload: workload.name,
)
def test_loads_on_a_real_server(endpoint: Endpoint, workload: Workload):
    load = run_sessions(endpoint, workload.sessions(2, 1), timeout=20.0)
    assert load.failures == []
    assert {one.finish_reason for one in load.answers} == {"length"}
    assert all(len(one.text) == one.completion_tokens for one in load.answers)  # a byte a token
    assert all(one.ttft > 0 for one in load.answers)
    sample = take_sample(workload.name, load)
    assert sample[FAILED.name] == 0
    assert sample["answer length, mean"] in (10, 20, 5)


def test_a_load_that_is_late_fails(endpoint: Endpoint):
    load = run_sessions(endpoint, Short(max_tokens=10_000).sessions(2, 1), timeout=0.3)
    assert load.answers == []
    assert len(load.failures) == 3  # two requests, and the load itself


def test_a_refused_request_fails(endpoint: Endpoint):
    wrong = Endpoint(endpoint.port, {"model": "nobody"})
    load = run_sessions(wrong, Short(num_requests=1).sessions(1, 1), timeout=20.0)
    assert [failure[:10] for failure in load.failures] == ["status 404"]
