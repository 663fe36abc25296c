"""Requests that take long to read or to start come one after the other, and streams go on."""

import time

import pytest
import zmq

from runtime.config.engine import EngineConfig
from runtime.messages.request import Request
from runtime.messages.wire import Submit, encode
from runtime.worker.border import MAX_BYTES, ZmqBorder
from tests.kit.engines import a_request, core_answers, scripted_core


def test_large_messages_are_read_a_few_at_a_time_and_none_is_lost() -> None:
    address = "tcp://127.0.0.1:*"
    with zmq.Context.instance().socket(zmq.PAIR) as gateway:
        gateway.bind(address)
        border = ZmqBorder(gateway.getsockopt_string(zmq.LAST_ENDPOINT))
        large = list(range(MAX_BYTES // 4))
        for number in range(6):
            gateway.send(encode(Submit(a_request(f"{number}", prompt_token_ids=large))))
        calls = []
        while sum(map(len, calls)) < 6:
            calls.append(border.receive(1.0))
        ids = [m.request.request_id for call in calls for m in call if isinstance(m, Submit)]
        border._socket.close(linger=0)

    assert ids == [f"{number}" for number in range(6)]
    assert max(map(len, calls)) <= 2


def test_starting_many_requests_does_not_hold_those_that_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = scripted_core("text", max_num_seqs=9)
    core.submit(a_request("running", max_tokens=500))
    core.step()
    add, limit = core._engine.add, EngineConfig().max_step_ms / 1000

    def slow_add(request: Request) -> None:
        until = time.monotonic() + limit
        while time.monotonic() < until:
            pass
        add(request)

    monkeypatch.setattr(core._engine, "add", slow_add)
    for number in range(8):
        core.submit(a_request(f"{number}", max_tokens=3))
    core.step()
    assert core._engine.num_running == 2

    assert set(core_answers(core)) == {"running", *map(str, range(8))}
