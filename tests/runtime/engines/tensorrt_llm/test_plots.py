"""Whatever happens to requests on the TensorRT-LLM engine, each gets its own tokens."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from runtime.engines.base import Engine
from runtime.messages.request import Request
from tests.kit.tensorrt_double import LATE, STABLE
from tests.runtime.engines.tensorrt_llm.harness import PLAIN, Make, expected, only, request


class Plot(Struct, frozen=True):
    """One request of a random plot: after how many steps it comes, how long it is, and after how
    many tokens it is given up or has to give way."""

    prompt: list[int]
    max_tokens: int
    comes_after: int
    stop: int | None
    abort_after: int | None
    preempt_after: int | None

    def to_request(self, name: str) -> Request:
        return request(
            name,
            prompt_token_ids=self.prompt,
            max_tokens=self.max_tokens,
            stop_token_ids=() if self.stop is None else (self.stop,),
        )

    def answer(self, plan: dict[str, Any]) -> list[int]:
        tokens = expected(plan, self.prompt, self.max_tokens)
        if self.stop in tokens:
            return tokens[: tokens.index(self.stop) + 1]
        return tokens


PLOTS = st.lists(
    st.builds(
        Plot,
        prompt=st.lists(st.integers(0, 255), min_size=1, max_size=40),
        max_tokens=st.integers(1, 30),
        comes_after=st.integers(0, 8),
        stop=st.none() | st.integers(97, 122),
        abort_after=st.none() | st.integers(0, 20),
        preempt_after=st.none() | st.integers(1, 20),
    ),
    min_size=1,
    max_size=8,
)


class Stage:
    """Plays a plot on an engine: everything that may happen to a request while others run."""

    def __init__(self, engine: Engine, plots: list[Plot]) -> None:
        self.engine = engine
        self.plots = {str(number): plot for number, plot in enumerate(plots)}
        self.got: dict[str, list[int]] = {name: [] for name in self.plots}
        self.gone: set[str] = set()
        self._coming = sorted(self.plots, key=lambda name: self.plots[name].comes_after)
        self._waiting: list[Request] = []
        self._to_preempt = {name for name, plot in self.plots.items() if plot.preempt_after}

    def play(self) -> None:
        num_steps = 0
        while len(self.gone) < len(self.plots):
            assert num_steps < 100_000, "the engine does not come to an end"
            while self._coming and self.plots[self._coming[0]].comes_after <= num_steps:
                name = self._coming.pop(0)
                self._waiting.append(self.plots[name].to_request(name))
            while self._waiting and self.engine.can_add(self._waiting[0]):
                self.engine.add(self._waiting.pop(0))
            self._hear()
            for name in sorted(set(self.plots) - self.gone):
                self._disturb(name, self.plots[name])
            num_steps += 1

    def _hear(self) -> None:
        for output in self.engine.step():
            assert output.request_id not in self.gone, "a request speaks after its end"
            self.got[output.request_id] += output.token_ids
            if output.finish_reason is not None:
                self.gone.add(output.request_id)
        assert self.engine.take_failed() == []

    def _disturb(self, name: str, plot: Plot) -> None:
        num_tokens = len(self.got[name])
        if plot.abort_after is not None and num_tokens >= plot.abort_after:
            self.engine.abort(name)
            self._waiting = [request for request in self._waiting if request.request_id != name]
            self._coming = [other for other in self._coming if other != name]
            self.gone.add(name)
        elif name in self._to_preempt and num_tokens >= (plot.preempt_after or 0):
            self._to_preempt.discard(name)
            self.engine.preempt(name)
            self._waiting += self.engine.take_preempted()


@only("stream_interval", [1, 3])
@only("release", [STABLE, LATE], indirect=True)
def test_whatever_happens_each_request_gets_its_own_tokens(
    make: Make, stream_interval: int
) -> None:
    """Any interleaving of requests, ends, stop tokens, aborts and preemptions."""
    plan = {**PLAIN, "eos_at": 45}
    engine = make({"extra": {"stream_interval": stream_interval}}, max_num_seqs=3, plan=plan)

    @settings(max_examples=30, deadline=None)
    @given(plots=PLOTS)
    def holds(plots: list[Plot]) -> None:
        stage = Stage(engine, plots)
        stage.play()
        for name, plot in stage.plots.items():
            answer = plot.answer(plan)
            complete = plot.abort_after is None
            assert stage.got[name] == (answer if complete else answer[: len(stage.got[name])])

    holds()
