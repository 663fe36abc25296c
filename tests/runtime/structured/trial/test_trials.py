"""Hard grammars are compiled on trial, and nothing that they do reaches the engine process."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
from msgspec import structs

from runtime.errors import EngineOverloaded, InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from runtime.processes import is_alive
from runtime.structured.fair_threads import NUM_THREADS
from runtime.structured.grammars import GrammarCompiler
from runtime.structured.trial.limits import MAX_MEMORY, MAX_SECONDS
from tests.kit.grammars import SLOW, TOKENIZER

HURRY = 0.2
"""Seconds of processor time that hurried trials have, which is enough for all that is not hard."""


@pytest.fixture
def grammars() -> Iterator[GrammarCompiler]:
    """And nothing is left of it afterwards."""
    before = psutil.Process().children()
    grammars = GrammarCompiler(TOKENIZER)
    yield grammars
    grammars.close()
    assert psutil.Process().children() == before


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials have less time: what happens at its end takes place sooner."""
    monkeypatch.setattr("runtime.structured.trial.process.MAX_PROCESSOR_SECONDS", HURRY)


def schema(**keywords: Any) -> StructuredOutput:
    return StructuredOutput(json=json.dumps(keywords), source="guided_json", is_strict=True)


def slow(number: int = 0) -> StructuredOutput:
    return schema(**SLOW, title=str(number))


def until(reached: Callable[[], bool]) -> None:
    patience = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < patience
        time.sleep(0.01)


def trials() -> list[psutil.Process]:
    """The processes of trials that this process has started."""
    return [
        process
        for process in psutil.Process().children()
        if is_alive(process) and "runtime.structured.trial" in process.cmdline()
    ]


HOSTILE = {
    "a divisor": schema(properties={"a": {"type": "integer", "multipleOf": 99_999_989}}),
    "divisors that are tried": slow(),
    "a divisor in a grammar": StructuredOutput(
        grammar='start: %json {"type": "integer", "multipleOf": 99999989}', source="guided_grammar"
    ),
    "repetitions": StructuredOutput(regex="(((b{999}){999}){999}){999}", source="guided_regex"),
    "repetitions in a schema": schema(type="string", pattern="^(a{1000}){1000}$"),
    "products": schema(
        allOf=[{"anyOf": [{"required": [f"{x}{n}"]} for x in "ab"]} for n in range(22)]
    ),
    "words": schema(enum=[f"value-{n}-{n * 7919 % 100_003}" for n in range(100_000)]),
    "doubled words": StructuredOutput(
        grammar='start: X30\nX0: "a"\n'
        + "\n".join(f"X{n}: X{n - 1} X{n - 1}" for n in range(1, 31)),
        source="guided_grammar",
    ),
    "deep": schema(items=json.loads('{"items":' * 300 + "{}" + "}" * 300)),
    "brackets": StructuredOutput(regex="(" * 60_000 + "a" + ")" * 60_000, source="guided_regex"),
}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("name", HOSTILE)
def test_what_takes_too_much_is_refused_and_disturbs_nobody(
    grammars: GrammarCompiler, name: str
) -> None:
    wanted, memory = HOSTILE[name], psutil.Process().memory_info().rss
    began = time.monotonic()
    refused = grammars.compile(wanted)
    ordinary = grammars.compile(schema(type="object", properties={"a": {"type": "string"}}))
    ordinary.result()
    assert time.monotonic() - began < 2

    with pytest.raises(InvalidRequest) as caught:
        refused.result(timeout=3 * MAX_SECONDS)

    assert caught.value.param == wanted.source
    assert len(str(caught.value)) < 1000
    assert psutil.Process().memory_info().rss - memory < MAX_MEMORY
    assert grammars.compile(wanted) is refused, "and it is not tried again"


@pytest.mark.usefixtures("hurried")
def test_what_takes_too_much_is_left_out_of_a_schema_that_is_not_strict(
    grammars: GrammarCompiler,
) -> None:
    hard = schema(
        type="object",
        properties={"a": {"type": "integer", "multipleOf": 199_999}, "b": {"const": 1}},
        required=["b"],
    )
    grammar = grammars.compile(structs.replace(hard, is_strict=False)).result(5 * MAX_SECONDS)

    assert [note.path for note in grammar.left_out] == ["properties.a.multipleOf"]
    assert "takes more than" in grammar.left_out[0].reason


HARMLESS = {
    "a chain of references": schema(
        **{"$ref": "#/$defs/d0"},
        **{"$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(9000)} | {"d9000": {}}},
    ),
    "left recursion": StructuredOutput(grammar='start: start "a" | "a"'),
    "an ambiguous grammar": StructuredOutput(grammar='start: start start | "a" |'),
    "many items": schema(type="array", minItems=10**6),
    "long texts": schema(type="string", maxLength=10**9),
    "many words": schema(enum=[f"value-{n}" for n in range(5_000)]),
    "many alternatives": schema(
        anyOf=[{"properties": {"k": {"const": f"v{n}"}}, "required": ["k"]} for n in range(500)]
    ),
    "many required properties": schema(
        properties={f"p{n}": {} for n in range(1_000)}, required=[f"p{n}" for n in range(1_000)]
    ),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_only_looks_hard_is_compiled(grammars: GrammarCompiler, name: str) -> None:
    grammars.compile(HARMLESS[name]).result(timeout=60)


def test_nothing_is_compiled_for_nobody(grammars: GrammarCompiler) -> None:
    futures = [grammars.compile(slow(number)) for number in range(NUM_THREADS + 3)]
    shared = grammars.compile(slow(0))
    assert shared is futures[0]
    until(lambda: grammars.num_compiling == NUM_THREADS)
    assert grammars.num_waiting == 3

    for future in futures:
        grammars.leave(future)
    until(lambda: grammars.num_waiting == 0 and grammars.num_compiling == 1)
    grammars.leave(shared)
    until(lambda: grammars.num_compiling == 0)

    until(lambda: grammars.take_num_killed() > 0)
    again = grammars.compile(slow(0))
    assert again is not shared, "what nobody waited for was not refused"
    grammars.leave(again)
    grammars.leave(again)


@pytest.mark.usefixtures("hurried")
def test_nobody_waits_behind_the_hard_grammars_of_another(grammars: GrammarCompiler) -> None:
    hostile = [grammars.compile(slow(number), "hostile") for number in range(30)]
    shared = grammars.compile(slow(29), "second")
    honest = [schema(enum=[f"{word}-{n}" for n in range(1_000)]) for word in "ab"]
    for future in [grammars.compile(each, "honest") for each in honest]:
        future.result(timeout=60)

    assert sum(future.done() for future in hostile) <= 2 * NUM_THREADS
    assert shared is hostile[29]
    refusal = shared.exception(timeout=60)
    assert isinstance(refusal, InvalidRequest | EngineOverloaded), "on a busy machine the latter"
    assert sum(future.done() for future in hostile) <= 3 * NUM_THREADS
    for future in hostile:
        grammars.leave(future)
    grammars.leave(shared)


def test_a_process_that_somebody_kills_loses_no_request(grammars: GrammarCompiler) -> None:
    until(lambda: bool(grammars.compile(StructuredOutput(grammar='start: "a"')).result()))
    wanted = schema(type="integer", multipleOf=49_999)
    future = grammars.compile(wanted)
    until(lambda: grammars.num_compiling == 1)
    [process, *_] = trials()
    process.kill()

    future.result(timeout=60)

    until(lambda: grammars.num_compiling == 0)
    idle = trials()
    for process in idle:
        process.kill()
    until(lambda: not any(process.is_running() for process in idle))  # nor is one a zombie
    grammars.compile(StructuredOutput(grammar='start: "b"')).result(timeout=60)


def test_a_busy_machine_is_no_reason_to_refuse_for_good(
    grammars: GrammarCompiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("runtime.structured.trial.process.MAX_SECONDS", 0.0)
        patch.setattr("runtime.structured.trial.process.MAX_PROCESSOR_SECONDS", 60.0)
        first = grammars.compile(slow())
        with pytest.raises(EngineOverloaded, match="busy"):
            first.result(timeout=60)

    second = grammars.compile(slow())
    assert second is not first
    with pytest.raises(InvalidRequest):
        second.result(timeout=60)


def test_the_end_of_the_engine_process_is_the_end_of_its_trials() -> None:
    script = """
        import json, time
        from runtime.messages.structured_output import StructuredOutput
        from runtime.structured.grammars import GrammarCompiler
        from tests.kit.grammars import SLOW, TOKENIZER
        grammars = GrammarCompiler(TOKENIZER)
        grammars.compile(StructuredOutput(json=json.dumps(SLOW)))
        while not grammars.num_compiling:
            time.sleep(0.01)
        print("compiling", flush=True)
        time.sleep(600)
    """
    engine = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert engine.stdout is not None
    assert engine.stdout.readline() == "compiling\n"
    until(lambda: bool(psutil.Process(engine.pid).children()))
    started = psutil.Process(engine.pid).children()

    os.kill(engine.pid, signal.SIGKILL if sys.platform != "win32" else signal.SIGTERM)
    engine.wait()
    engine.stdout.close()

    until(lambda: not any(map(is_alive, started)))
