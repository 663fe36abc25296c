"""The engine process without its socket, on the scripted engine."""

import pytest

from runtime import EngineConfig, Request, SamplingParams, ScriptedConfig, load_tokenizer
from runtime.core import EngineCore
from runtime.engines import create_engine
from runtime.messages import RequestFailed, StepOutput
from runtime.request import RequestOutput

TEXT = "one two three four five six seven "


def core(**settings: object) -> EngineCore:
    scripted = ScriptedConfig(text=TEXT, num_tokens=settings.pop("num_tokens", 0))  # type: ignore[arg-type]
    config = EngineConfig(name="scripted", scripted=scripted, **settings)  # type: ignore[arg-type]
    tokenizer = load_tokenizer("")
    return EngineCore(create_engine(config, "", tokenizer), tokenizer, config)


def request(request_id: str = "r", **fields: object) -> Request:
    sampling = SamplingParams(
        max_tokens=fields.pop("max_tokens", 8),  # type: ignore[arg-type]
        stop=fields.pop("stop", ()),  # type: ignore[arg-type]
    )
    fields.setdefault("prompt_token_ids", [0])
    return Request(request_id=request_id, sampling=sampling, **fields)  # type: ignore[arg-type]


def run(core: EngineCore) -> dict[str, RequestOutput]:
    """Step until there is no work; the deltas of each request as one."""
    whole: dict[str, RequestOutput] = {}
    for _ in range(1000):
        if not core.has_work:
            break
        core.step()
        for message in core.take_messages():
            assert isinstance(message, StepOutput)
            for output in message.outputs:
                before = whole.get(output.request_id, RequestOutput(output.request_id, [], ""))
                whole[output.request_id] = RequestOutput(
                    output.request_id,
                    before.token_ids + output.token_ids,
                    before.text + output.text,
                    output.finish_reason,
                    output.stop_reason,
                )
    assert not core.has_work
    return whole


def test_a_request_runs_to_its_length():
    engine_core = core()
    engine_core.submit(request(max_tokens=7))

    answer = run(engine_core)["r"]

    assert answer.text == TEXT[:7]
    assert len(answer.token_ids) == 7
    assert answer.finish_reason == "length"


def test_the_model_may_end_by_itself():
    engine_core = core(num_tokens=3)
    engine_core.submit(request(max_tokens=100))

    answer = run(engine_core)["r"]

    assert (answer.text, answer.finish_reason) == (TEXT[:3], "stop")


def test_a_stop_string_ends_the_sequence_in_the_same_step():
    engine_core = core()
    engine_core.submit(request(max_tokens=100, stop=("three",)))

    answer = run(engine_core)["r"]

    assert (answer.text, answer.finish_reason, answer.stop_reason) == ("one two ", "stop", "three")
    assert len(answer.token_ids) == len("one two three")


@pytest.mark.parametrize("delivered", range(20))
def test_a_resumed_request_says_only_what_is_new(delivered: int):
    """Cut anywhere, even inside what may become a stop string, the text continues seamlessly."""
    engine_core = core()
    engine_core.submit(request(max_tokens=20, stop=("thrice",)))
    whole = run(engine_core)["r"]

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
    rest = run(second)["r"]

    assert text + rest.text == whole.text
    assert whole.token_ids[:delivered] + rest.token_ids == whole.token_ids


def test_aborting_frees_the_place_before_the_next_step():
    engine_core = core(max_num_seqs=1)
    engine_core.submit(request("first", max_tokens=1000))
    engine_core.submit(request("second", max_tokens=2))
    engine_core.step()
    engine_core.take_messages()

    engine_core.abort("first")

    assert set(run(engine_core)) == {"second"}


def test_aborting_a_waiting_request_takes_it_out_of_the_queue():
    engine_core = core(max_num_seqs=1)
    engine_core.submit(request("first", max_tokens=3))
    engine_core.submit(request("second", max_tokens=3))

    engine_core.abort("second")
    engine_core.abort("unknown")

    assert set(run(engine_core)) == {"first"}


def test_what_does_not_fit_is_refused_at_once():
    engine_core = core(max_num_seqs=1, max_num_waiting=1)
    for number in range(3):
        engine_core.submit(request(str(number)))

    [refusal] = engine_core.take_messages()

    assert isinstance(refusal, RequestFailed)
    assert (refusal.request_id, refusal.kind) == ("2", "overloaded")
    assert set(run(engine_core)) == {"0", "1"}


def test_requests_in_one_batch_get_the_text_they_get_alone():
    prompts = {str(number): [number] for number in range(8)}
    alone = {}
    for request_id, prompt in prompts.items():
        engine_core = core()
        engine_core.submit(request(request_id, prompt_token_ids=prompt, max_tokens=12))
        alone |= run(engine_core)

    together = core(max_num_seqs=3)
    for request_id, prompt in prompts.items():
        together.submit(request(request_id, prompt_token_ids=prompt, max_tokens=12))

    assert run(together) == alone


def test_an_idle_core_has_a_heartbeat():
    engine_core = core()

    engine_core.heartbeat()

    [message] = engine_core.take_messages()
    assert isinstance(message, StepOutput)
    assert message.outputs == []
