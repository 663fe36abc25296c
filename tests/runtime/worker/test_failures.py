"""What goes wrong while one request starts is that request's end, and nobody else's."""

from functools import partial

import pytest

from runtime.errors import EngineFatal
from runtime.messages.request import Request
from runtime.messages.wire import RequestFailed
from runtime.worker.core import EngineCore
from tests.kit.engines import a_request, core_answers, scripted_core

core = partial(scripted_core, "one two three ")
request = partial(a_request, prompt_token_ids=[0])


def failures(engine_core: EngineCore) -> list[tuple[str, str]]:
    messages = engine_core.take_messages()
    return [(m.request_id, m.kind) for m in messages if isinstance(m, RequestFailed)]


@pytest.mark.parametrize("where", ["prepare", "add"])
def test_a_mistake_in_the_engine_while_a_request_starts_is_the_end_of_that_request_alone(
    where: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    engine_core = core()
    engine_core.submit(request("running"))
    engine_core.step()
    original = getattr(engine_core._engine, where)

    def fails(asked: Request) -> object:
        return original(asked) if asked.request_id != "bug" else [][1]

    monkeypatch.setattr(engine_core._engine, where, fails)
    engine_core.submit(request("bug"))
    engine_core.submit(request("good"))
    engine_core.step()

    assert failures(engine_core) == [("bug", "internal")]
    assert "IndexError" in capfd.readouterr().err
    assert core_answers(engine_core).keys() == {"running", "good"}


def test_what_the_text_of_an_answer_refuses_ends_that_request_alone():
    engine_core = core()
    engine_core.submit(request("bad", stop=("",)))
    engine_core.submit(request("good"))
    engine_core.step()

    assert failures(engine_core) == [("bad", "invalid")]
    assert core_answers(engine_core).keys() == {"good"}
    assert engine_core._engine.num_running == 0


def test_an_engine_that_cannot_go_on_ends_the_process(monkeypatch: pytest.MonkeyPatch):
    engine_core = core()

    def fails(asked: Request) -> None:
        raise EngineFatal("broken")

    monkeypatch.setattr(engine_core._engine, "add", fails)
    engine_core.submit(request())
    with pytest.raises(EngineFatal):
        engine_core.step()
