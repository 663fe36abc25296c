"""The engine process's loop, with messages from a list instead of a socket."""

import subprocess
import sys

from runtime.messages.wire import Abort, FromEngine, StepOutput, Stop, Submit, ToEngine
from runtime.worker.__main__ import serve
from tests.kit.command_line import environment
from tests.kit.engines import a_request, scripted_core


def submit(request_id: str, max_tokens: int = 2) -> Submit:
    return Submit(a_request(request_id, max_tokens=max_tokens))


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


def test_requests_of_a_burst_share_their_first_step():
    border = Script([submit("a")], [submit("b")], [], [], [Stop()])

    serve(scripted_core("abc"), border)

    assert border.outputs()[0] == ["a", "b"]


def test_an_abort_is_obeyed_before_the_next_step():
    border = Script([submit("a", 100)], [], [submit("b", 100)], [Abort("a")], [], [Stop()])

    serve(scripted_core("abc"), border)

    assert border.outputs() == [["a"], ["a", "b"], ["b"], ["b"]]


def test_stop_is_obeyed_before_the_next_step():
    border = Script([submit("a", 3)], [], [], [Stop(), Abort("never read")])

    serve(scripted_core("abc"), border)

    assert border.outputs() == [["a"], ["a"]]


def test_an_engine_process_loads_only_what_it_needs() -> None:
    program = """if True:
        import sys, runtime.worker.__main__, runtime.engines.scripted.engine
        loaded = {"rich", "numpy", "litestar"} & sys.modules.keys()
        import rich.console  # whoever wants it later gets it
        sys.exit(str(loaded) if loaded else 0)
    """
    assert subprocess.run([sys.executable, "-c", program], env=environment()).returncode == 0
