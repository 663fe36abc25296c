"""The engine process without its socket, on the scripted engine."""

import time
from concurrent.futures import Future
from functools import partial

import msgspec
import pytest
from msgspec import Struct

from runtime.config.engine import EngineConfig
from runtime.config.scripted import ScriptedConfig
from runtime.engines import create_engine
from runtime.engines.base import EmbeddingKey
from runtime.engines.scripted.embedder import ScriptedEmbedder
from runtime.errors import InvalidRequest
from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.request import Request
from runtime.messages.structured_output import LeftOut
from runtime.messages.wire import Loosened, RequestFailed, StepOutput
from runtime.tokenizers.load import load_tokenizer
from runtime.worker.core import UNDISTURBED_STEPS, EngineCore
from tests.kit.engines import a_request, core_answers, scripted_core

TEXT = "one two three four five six seven "

core = partial(scripted_core, TEXT)
request = partial(a_request, prompt_token_ids=[0])


def test_a_request_runs_to_its_length():
    engine_core = core()
    engine_core.submit(request(max_tokens=7))

    answer = core_answers(engine_core)["r"]

    assert answer.text == TEXT[:7]
    assert len(answer.token_ids) == 7
    assert answer.finish_reason == "length"


def test_the_model_may_end_by_itself():
    engine_core = core(num_tokens=3)
    engine_core.submit(request(max_tokens=100))

    answer = core_answers(engine_core)["r"]

    assert (answer.text, answer.finish_reason) == (TEXT[:3], "stop")


def test_a_stop_string_ends_the_sequence_in_the_same_step():
    engine_core = core()
    engine_core.submit(request(max_tokens=100, stop=("three",)))

    answer = core_answers(engine_core)["r"]

    assert (answer.text, answer.finish_reason, answer.stop_reason) == ("one two ", "stop", "three")
    assert len(answer.token_ids) == len("one two three")


@pytest.mark.parametrize("delivered", range(20))
def test_a_resumed_request_says_only_what_is_new(delivered: int):
    """Cut anywhere, even inside what may become a stop string, the text continues seamlessly."""
    engine_core = core()
    engine_core.submit(request(max_tokens=20, stop=("thrice",)))
    whole = core_answers(engine_core)["r"]

    first = core()
    first.submit(request(max_tokens=20, stop=("thrice",)))
    text = ""
    for _ in range(delivered):
        first.step()
        [message] = first.take_messages()
        assert isinstance(message, StepOutput)
        text += message.outputs[0].text
    second = core()
    second.submit(
        request(max_tokens=20, stop=("thrice",), output_token_ids=whole.token_ids[:delivered])
    )
    rest = core_answers(second)["r"]

    assert text + rest.text == whole.text
    assert whole.token_ids[:delivered] + rest.token_ids == whole.token_ids


def test_aborting_frees_the_place_before_the_next_step():
    engine_core = core(max_num_seqs=1)
    engine_core.submit(request("first", max_tokens=1000))
    engine_core.submit(request("second", max_tokens=2))
    engine_core.step()
    engine_core.take_messages()

    engine_core.abort("first")

    assert set(core_answers(engine_core)) == {"second"}


def test_aborting_a_waiting_request_takes_it_out_of_the_queue():
    engine_core = core(max_num_seqs=1)
    engine_core.submit(request("first", max_tokens=3))
    engine_core.submit(request("second", max_tokens=3))

    engine_core.abort("second")
    engine_core.abort("unknown")

    assert set(core_answers(engine_core)) == {"first"}


def test_what_does_not_fit_is_refused_at_once():
    engine_core = core(max_num_seqs=1, max_num_waiting=1)
    for number in range(3):
        engine_core.submit(request(str(number)))

    [refusal] = engine_core.take_messages()

    assert isinstance(refusal, RequestFailed)
    assert (refusal.request_id, refusal.kind) == ("2", "overloaded")
    assert set(core_answers(engine_core)) == {"0", "1"}


def test_requests_in_one_batch_get_the_text_they_get_alone():
    prompts = {str(number): [number] for number in range(8)}
    alone = {}
    for request_id, prompt in prompts.items():
        engine_core = core()
        engine_core.submit(request(request_id, prompt_token_ids=prompt, max_tokens=12))
        alone |= core_answers(engine_core)

    together = core(max_num_seqs=3)
    for request_id, prompt in prompts.items():
        together.submit(request(request_id, prompt_token_ids=prompt, max_tokens=12))

    assert core_answers(together) == alone


def test_an_idle_core_has_a_heartbeat():
    engine_core = core()

    engine_core.heartbeat()

    [message] = engine_core.take_messages()
    assert isinstance(message, StepOutput)
    assert message.outputs == []


class World:
    """A core of one place whose requests are aged by hand: `waited` seconds ago they arrived."""

    def __init__(self, **settings: object) -> None:
        self.core = core(max_num_seqs=1, **settings)

    def submit(self, request_id: str, *, waited: float = 0.0, **fields: object) -> None:
        arrival_time = time.monotonic() - waited
        self.core.submit(request(request_id, arrival_time=arrival_time, **fields))

    def order(self) -> list[str]:
        """Run to the end; who began when."""
        return list(core_answers(self.core))


def test_classes_go_before_arrival_and_age_goes_before_class():
    world = World(priority_ageing=30.0)
    world.submit("batch", priority=100)
    world.submit("interactive", priority=-100)
    world.submit("normal")
    world.submit("old batch", priority=100, waited=40.0)

    assert world.order() == ["interactive", "old batch", "normal", "batch"]


def test_tenants_take_turns_by_tokens():
    world = World()
    for number in range(4):
        world.submit(f"greedy {number}", tenant="greedy", max_tokens=50)
    world.submit("modest 0", tenant="modest", max_tokens=2)
    world.submit("modest 1", tenant="modest", max_tokens=2)

    assert world.order()[:3] == ["greedy 0", "modest 0", "modest 1"]


def test_a_request_that_waits_past_its_deadline_is_refused_and_not_computed():
    world = World()
    world.submit("running", max_tokens=3)
    world.core.step()
    world.core.take_messages()
    world.submit("late", deadline=time.monotonic() - 0.1, waited=5.0)

    world.core.step()

    refusals = [each for each in world.core.take_messages() if isinstance(each, RequestFailed)]
    assert [(each.request_id, each.kind) for each in refusals] == [("late", "expired")]
    assert "5 seconds" in refusals[0].message
    assert world.order() == ["running"]


@pytest.mark.posix("a clock that goes on with every step")
def test_a_running_request_of_a_lower_class_gives_way_and_loses_nothing():
    undisturbed = World()
    undisturbed.submit("batch", max_tokens=20)
    [(_, whole)] = core_answers(undisturbed.core).items()
    world = World(preempt_after=0.0)
    world.submit("batch", max_tokens=20, priority=100)
    told = ""
    for _ in range(5):
        world.core.step()
    for message in world.core.take_messages():
        assert isinstance(message, StepOutput)
        told += "".join(output.text for output in message.outputs)

    world.submit("interactive", max_tokens=3, priority=-100)
    rest = core_answers(world.core)

    assert list(rest) == ["interactive", "batch"]
    assert told + rest["batch"].text == whole.text
    assert len(rest["batch"].token_ids) == 15


@pytest.mark.parametrize(
    ("settings", "priority"),
    [
        ({"preempt_after": 60.0}, -100),  # it has not waited long enough
        ({"preempt_after": 0.0}, 1),  # a finer order within one class interrupts nobody
    ],
)
def test_nobody_gives_way_without_reason(settings: dict[str, float], priority: int):
    world = World(**settings)
    world.submit("first", max_tokens=20, priority=50)
    world.core.step()
    world.submit("second", max_tokens=2, priority=priority)

    assert world.order() == ["first", "second"]


def test_an_aborted_request_that_had_given_way_is_forgotten():
    world = World(preempt_after=0.0)
    world.submit("batch", max_tokens=20, priority=100)
    world.core.step()
    world.submit("interactive", max_tokens=5, priority=-100)
    world.core.step()
    world.core.take_messages()

    world.core.abort("batch")

    assert world.order() == ["interactive"]
    world.submit("batch", max_tokens=4)
    assert core_answers(world.core)["batch"].text == TEXT[:4]


@pytest.mark.posix("a clock that goes on with every step")
def test_who_gives_way_with_age_on_its_side_is_not_taken_for_the_one_it_gave_way_to():
    """Back in the queue it stands before the one that is let in just then; both are answered."""
    world = World(preempt_after=0.0, priority_ageing=30.0)
    world.submit("old batch", max_tokens=20, priority=100, waited=500.0)
    world.core.step()
    world.core.take_messages()

    world.submit("interactive", max_tokens=3, priority=-100)
    answers = core_answers(world.core)

    assert list(answers) == ["interactive", "old batch"]
    assert [len(answer.token_ids) for answer in answers.values()] == [3, 19]


class Prepared(Struct, frozen=True):
    left_out: tuple[LeftOut, ...] = ()


def preparing_core(**settings: object) -> tuple[EngineCore, dict[str, Future[Prepared]], list[str]]:
    """A core whose engine prepares every request, as long as the test wants; and what it was told
    to forget."""
    engine_core = core(**settings)
    futures: dict[str, Future[Prepared]] = {}
    aborted: list[str] = []

    def prepare(request: Request) -> Future[Prepared]:
        return futures.setdefault(request.request_id, Future())

    engine_core._engine.prepare = prepare  # type: ignore[method-assign]
    engine_core._engine.abort = aborted.append  # type: ignore[method-assign]
    return engine_core, futures, aborted


def failures(engine_core: EngineCore) -> list[tuple[str, str]]:
    messages = engine_core.take_messages()
    return [(m.request_id, m.kind) for m in messages if isinstance(m, RequestFailed)]


def test_a_request_waits_for_its_preparation_and_nobody_else_does():
    engine_core, futures, _ = preparing_core()
    engine_core.submit(request("slow"))
    engine_core.submit(request("fast"))
    assert engine_core.is_preparing
    assert not engine_core.has_work

    futures["fast"].set_result(Prepared())
    assert core_answers(engine_core, steps=20).keys() == {"fast"}
    assert engine_core.is_preparing

    futures["slow"].set_result(Prepared())
    assert core_answers(engine_core, steps=20).keys() == {"slow"}
    assert not engine_core.is_preparing


def test_a_failed_preparation_is_the_end_of_its_request_alone(capfd: pytest.CaptureFixture[str]):
    engine_core, futures, aborted = preparing_core()
    for name in ("bad", "bug", "good"):
        engine_core.submit(request(name))
    futures["bad"].set_exception(InvalidRequest("no", param="response_format"))
    futures["bug"].set_exception(ZeroDivisionError("oops"))
    futures["good"].set_result(Prepared())

    engine_core.step()

    assert failures(engine_core) == [("bad", "invalid"), ("bug", "internal")]
    assert aborted == ["bad", "bug"]
    assert "ZeroDivisionError" in capfd.readouterr().err, "a mistake of ours leaves its traceback"
    assert core_answers(engine_core)["good"].finish_reason == "length"


def test_requests_in_preparation_count_as_waiting_and_can_be_forgotten():
    engine_core, futures, aborted = preparing_core(max_num_seqs=1, max_num_waiting=1)
    for name in ("a", "b", "c"):
        engine_core.submit(request(name))
    assert failures(engine_core) == [("c", "overloaded")]

    engine_core.abort("a")
    engine_core.submit(request("d", deadline=time.monotonic() - 1))
    futures["d"].set_result(Prepared())
    engine_core.step()

    assert failures(engine_core) == [("d", "expired")]
    assert aborted == ["a", "d"]
    engine_core.abort("b")
    assert not engine_core.is_preparing


def test_what_is_not_enforced_is_told_before_the_first_token():
    engine_core, futures, _ = preparing_core()
    engine_core.submit(request("r"))
    note = LeftOut("response_format", "not", "why")
    futures["r"].set_result(Prepared((note,)))

    engine_core.step()

    told, step = engine_core.take_messages()
    assert told == Loosened("r", [note])
    assert isinstance(step, StepOutput)


def last_step(engine_core: EngineCore) -> StepOutput:
    engine_core.step()
    steps = [m for m in engine_core.take_messages() if isinstance(m, StepOutput)]
    return steps[-1]


def test_the_first_delta_says_how_long_the_request_was_queued():
    engine_core = core(max_num_seqs=1)
    arrived = msgspec.structs.replace(request(max_tokens=2), arrival_time=time.monotonic() - 5)
    engine_core.submit(arrived)
    first, second = last_step(engine_core), last_step(engine_core)
    assert first.outputs[0].seconds_queued == pytest.approx(5, abs=1)
    assert second.outputs[0].seconds_queued is None


def test_who_gave_way_is_counted_as_waiting_and_as_resumed():
    engine_core = core(max_num_seqs=1, preempt_after=0.0)
    engine_core.submit(request("low", priority=100, max_tokens=3))
    last_step(engine_core)
    engine_core.submit(request("high", max_tokens=2))
    meanwhile, end = last_step(engine_core), last_step(engine_core)
    back = last_step(engine_core)

    assert (meanwhile.stats.num_waiting, meanwhile.stats.num_waiting_preempted) == (1, 1)
    assert (end.stats.num_resumed, back.stats.num_resumed) == (0, 1)
    assert back.stats.num_waiting_preempted == 0
    assert back.outputs[0].seconds_queued is None


def test_a_step_says_how_long_a_preparation_was_waited_for():
    engine_core, futures, _ = preparing_core()
    engine_core.submit(request("r"))
    assert engine_core.is_preparing
    futures["r"].set_result(Prepared())
    ready, later = last_step(engine_core), last_step(engine_core)
    assert len(ready.preparation_seconds) == 1
    assert 0 <= ready.preparation_seconds[0] < 60
    assert later.preparation_seconds == []


class _TimedEmbedder(ScriptedEmbedder):
    """Notes how many seconds each step may take."""

    def __init__(self) -> None:
        super().__init__(max_tokens=100, vocab_size=256)
        self.seconds: list[float] = []

    def step(self, seconds: float) -> list[tuple[EmbeddingKey, bytes]]:
        self.seconds.append(seconds)
        return super().step(seconds)


def test_embeddings_take_no_more_of_a_step_than_the_stream_beside_them():
    """Beside a stream they get about as long as its step took, within `max_step_ms`; alone, as many
    times the longest step as prompts do without streams."""
    config = EngineConfig(
        name="scripted", scripted=ScriptedConfig(text=TEXT, step_ms=5), max_step_ms=2000
    )
    tokenizer = load_tokenizer("")
    engine = create_engine(config, "", tokenizer)
    embedder = engine.embedder = _TimedEmbedder()
    engine_core = EngineCore(engine, tokenizer, config)

    engine_core.embed(EmbeddingRequest(request_id="alone", inputs=[[1]]))
    engine_core.step()
    engine_core.submit(request(max_tokens=50))
    engine_core.embed(EmbeddingRequest(request_id="beside", inputs=[[1]]))
    began = time.monotonic()
    engine_core.step()
    took = time.monotonic() - began

    alone, beside = embedder.seconds
    assert alone == UNDISTURBED_STEPS * 2.0
    assert 0.005 <= beside <= took
