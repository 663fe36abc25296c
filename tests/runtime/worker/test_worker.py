"""The engine process's loop, with messages from a list instead of a socket."""

from runtime.config.engine import EngineConfig
from runtime.config.scripted import ScriptedConfig
from runtime.engines import create_engine
from runtime.messages.request import Request, SamplingParams
from runtime.messages.wire import Abort, FromEngine, StepOutput, Stop, Submit, ToEngine
from runtime.tokenizers.load import load_tokenizer
from runtime.worker.__main__ import serve
from runtime.worker.core import EngineCore


class Script:
    """A border whose `receive` hands out prepared batches, then tells the worker to stop."""

    def __init__(self, *batches: list[ToEngine]) -> None:
        self._batches = list(batches)
        self.sent: list[FromEngine] = []

    def receive(self, timeout: float) -> list[ToEngine]:
        return self._batches.pop(0) if self._batches else [Stop()]

    def send(self, message: FromEngine) -> None:
        self.sent.append(message)

    def outputs(self) -> list[list[str]]:
        steps = [message for message in self.sent if isinstance(message, StepOutput)]
        return [[output.request_id for output in step.outputs] for step in steps]


def core() -> EngineCore:
    config = EngineConfig(name="scripted", scripted=ScriptedConfig(text="abc"))
    tokenizer = load_tokenizer("")
    return EngineCore(create_engine(config, "", tokenizer), tokenizer, config)


def submit(request_id: str, max_tokens: int = 2) -> Submit:
    sampling = SamplingParams(max_tokens=max_tokens)
    return Submit(Request(request_id=request_id, prompt_token_ids=[1], sampling=sampling))


def test_requests_of_a_burst_share_their_first_step():
    border = Script([submit("a")], [submit("b")], [], [], [Stop()])

    serve(core(), border)

    assert border.outputs()[0] == ["a", "b"]


def test_an_abort_is_obeyed_before_the_next_step():
    border = Script([submit("a", 100)], [], [submit("b", 100)], [Abort("a")], [], [Stop()])

    serve(core(), border)

    assert border.outputs() == [["a"], ["a", "b"], ["b"], ["b"]]


def test_stop_is_obeyed_before_the_next_step():
    border = Script([submit("a", 3)], [], [], [Stop(), Abort("never read")])

    serve(core(), border)

    assert border.outputs() == [["a"], ["a"]]
