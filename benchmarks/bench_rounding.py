"""How far do a token's logits move with what is computed beside it, and do answers part for it?

    scripts/bench rounding --model PATH_OF_A_GGUF_FILE
    scripts/bench rounding --model PATH_OF_A_GGUF_FILE --every 1

First the last token of one text: with other cells of the cache in use, with other rows in the
batch, with its text read in other chunks; for the kinds of attention that the library has. Then
answers of 40 tokens, one alone, cut after every `--every` tokens and taken up again: where one
parts from the undisturbed, the two tokens' scores (logit and random number, what the draw compares)
must lie closer than the logits moved, and a sampler that is given the undisturbed logits must draw
the undisturbed token. The benchmark fails where either does not hold.
"""

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from machine import machine
from report import write_json
from words import Words

from runtime.config.engine import EngineConfig
from runtime.config.llama_cpp import LlamaCppConfig
from runtime.engines.llama_cpp.adapters import LlamaAdapters
from runtime.engines.llama_cpp.engine import LlamaCppEngine
from runtime.engines.llama_cpp.model import LlamaModel
from runtime.engines.llama_cpp.sampling.sampler import MIN_TEMPERATURE, Sampler
from runtime.engines.llama_cpp.scheduler import Batch
from runtime.engines.llama_cpp.weights import load_weights
from runtime.llama_library.installed import open_library
from runtime.messages.request import Request, SamplingParams
from runtime.messages.structured_output import StructuredOutput
from runtime.tokenizers.load import load_tokenizer

NUM_SLOTS = 33
NUM_TOKENS = 40
NUM_COMPARED = 50
"""Of the likeliest tokens."""

LIST = (
    '{"type": "object", "properties": {"title": {"type": "string"}, "words": {"type": "array",'
    ' "items": {"type": "string"}, "minItems": 8}}, "required": ["title", "words"]}'
)
CASES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "sampled": {"seed": 7},
    "penalties, logit_bias": {
        "seed": 8,
        "presence_penalty": 0.5,
        "frequency_penalty": 0.5,
        "repetition_penalty": 1.1,
        "logit_bias": {220: 2.0, 11: -1.0},
    },
    "min_p, top_k": {"seed": 9, "min_p": 0.05, "top_k": 40},
    "top_p": {"seed": 10, "top_p": 0.9},
    "regex": {
        "seed": 11,
        "structured_output": StructuredOutput(regex="([A-Z][a-z]{2,8} [a-z]{2,9}, ){12}"),
    },
    "json": {"seed": 12, "structured_output": StructuredOutput(json=LIST)},
    "logprobs": {"seed": 15, "logprobs": 5},
}


@dataclass(frozen=True)
class Row:
    """Stands for a sequence and for its chunk, of which `LlamaModel.decode` asks no more."""

    slot: int
    token_ids: list[int]
    start: int
    end: int
    samples: bool = True
    scores: bool = False

    @property
    def sequences(self) -> "tuple[Row, ...]":
        return (self,)


class Probe:
    """Computes the last token of a text among others, and tells its logits."""

    def __init__(self, path: str, config: EngineConfig, token_ids: list[int]) -> None:
        self._weights = load_weights(config, path)
        self._model = LlamaModel(config, self._weights, LlamaAdapters(self._weights))
        self._text = token_ids
        self._last = len(token_ids) - 1

    def read(self, slot: int, start: int, end: int, chunk: int) -> None:
        for position in range(start, end, chunk):
            self._decode(Row(slot, self._text, position, min(position + chunk, end)))

    def remove(self, slot: int) -> None:
        self._model.remove(slot)

    def last(self, num_others: int = 0) -> np.ndarray:
        """Log-probabilities after the text, whose last token is computed beside so many others;
        then everything is forgotten."""
        others = [Row(slot, self._text, 0, 1) for slot in range(2, 2 + num_others)]
        row = self._decode(Row(0, self._text, self._last, self._last + 1), *others)
        logits = self._model.logits(row).astype(np.float64)
        for slot in range(NUM_SLOTS):
            self._model.remove(slot)
        wide: np.ndarray = logits - np.logaddexp.reduce(logits)
        return wide

    def close(self) -> None:
        self._model.close()
        self._weights.close()

    def _decode(self, *rows: Row) -> int:
        return self._model.decode(Batch(list(rows), 0))[0]  # type: ignore[arg-type]


def shift(expected: np.ndarray, got: np.ndarray) -> float:
    """How far the likeliest tokens' log-probabilities moved, the farthest of them."""
    likeliest = np.argpartition(-expected, NUM_COMPARED)[:NUM_COMPARED]
    return float(np.abs(expected - got)[likeliest].max())


def shifts(probe: Probe, num_tokens: int, chunk: int) -> Iterator[tuple[str, float]]:
    """What the last token sees beside it, and how far that moves it."""
    end = num_tokens - 1
    probe.read(0, 0, end, chunk)
    expected = probe.last()
    for number in (1, 7, 16, 50, 80):
        probe.read(1, 0, number, chunk)
        probe.read(0, 0, end, chunk)
        yield f"{number} other cells before its own", shift(expected, probe.last())
    probe.read(1, 0, 30, chunk)
    probe.read(0, 0, end // 2, chunk)
    probe.remove(1)
    probe.read(0, end // 2, end, chunk)
    yield "second half in cells before the first", shift(expected, probe.last())
    for number in (2, 3, 4, 7, 8, 16, 32):
        probe.read(0, 0, end, chunk)
        yield f"{number} rows in its batch", shift(expected, probe.last(number - 1))
    for size in (1, 7, 8, 64):
        probe.read(0, 0, end, size)
        yield f"read in chunks of {size}", shift(expected, probe.last())


class Tracer:
    """A sampler that keeps what it saw: logits, what was allowed, what it took."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self.seen: list[tuple[np.ndarray, np.ndarray | None, int]] = []

    def sample(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> int:
        token_id = self._sampler.sample(logits, allowed)
        self.seen.append((logits.copy(), None if allowed is None else allowed.copy(), token_id))
        return token_id


def answer(engine: LlamaCppEngine, request: Request, expected: list[int]) -> Tracer:
    """Generate to the end, or to where it parts from what is expected."""
    engine.add(request)
    [sequence] = engine._scheduler.sequences()
    sequence.sampler = tracer = Tracer(sequence.sampler)  # type: ignore[assignment]
    while engine.num_running:
        engine.step()
        place = len(request.output_token_ids) + len(tracer.seen) - 1
        if expected and tracer.seen and tracer.seen[-1][2] != expected[place]:
            engine.abort(request.request_id)
    return tracer


@dataclass
class Trace:
    """What one kind of answer came to. `moved` is how far the logits of the likeliest tokens moved
    against each other, in each step; `closeness` the sum of both leads where answers parted."""

    case: str
    cuts: int = 0
    parted: int = 0
    other_draws: int = 0
    not_in_the_gap: int = 0
    moved: list[float] = field(default_factory=list)
    closeness: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        return {
            "case": self.case,
            "cuts": self.cuts,
            "parted": self.parted,
            "other_draws": self.other_draws,
            "not_in_the_gap": self.not_in_the_gap,
            "moved_median": statistics.median(self.moved),
            "moved_most": max(self.moved),
            "closeness_most": max(self.closeness, default=0.0),
        }


def trace(engine: LlamaCppEngine, prompt: list[int], case: str, every: int) -> Trace:
    """Cut an answer after every so many tokens."""
    sampling = SamplingParams(max_tokens=NUM_TOKENS, ignore_eos=True, **CASES[case])
    asked = Request(request_id="r", prompt_token_ids=prompt, sampling=sampling)
    whole = answer(engine, asked, []).seen
    token_ids = [token_id for _, _, token_id in whole]
    result = Trace(case)
    for cut in range(1, len(whole), every):
        request = Request(
            request_id="r",
            prompt_token_ids=prompt,
            sampling=sampling,
            output_token_ids=token_ids[:cut],
        )
        result.cuts += 1
        twin = Sampler(sampling, token_ids[:cut], prompt_token_ids=prompt)
        result.other_draws += sum(
            twin.sample(logits, allowed) != token_id for logits, allowed, token_id in whole[cut:]
        )
        resumed = answer(engine, request, token_ids).seen
        _compare(result, asked, whole, resumed, cut)
    return result


def _compare(result: Trace, asked: Request, whole: list[Any], resumed: list[Any], cut: int) -> None:
    for place, (logits, _, token_id) in enumerate(resumed, cut):
        before, _, expected = whole[place]
        difference = (before - logits)[np.argpartition(-before, NUM_COMPARED)[:NUM_COMPARED]]
        result.moved.append(float(np.abs(difference - difference.mean()).max()))
        if token_id == expected:
            continue
        result.parted += 1
        told = [seen for _, _, seen in whole[:place]]
        lead = _lead(asked, told, before, expected, token_id)
        other_lead = _lead(asked, told, logits, token_id, expected)
        result.not_in_the_gap += min(lead, other_lead) < 0
        result.closeness.append(lead + other_lead)


def _lead(asked: Request, told: list[int], logits: np.ndarray, first: int, second: int) -> float:
    """By how much the first token wins the draw against the second, in units of logits divided by
    the temperature."""
    sampler = Sampler(asked.sampling, told, prompt_token_ids=asked.prompt_token_ids)
    edited = sampler._rules.apply(logits)
    temperature = asked.sampling.temperature
    if temperature < MIN_TEMPERATURE:
        return float(edited[first] - edited[second])
    late = np.log(sampler._times(np.array([first, second])))
    return float((edited[first] - edited[second]) / temperature - (late[0] - late[1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True, help="a GGUF file")
    parser.add_argument("--every", type=int, default=4, help="tokens from one cut to the next")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--library", default="llama.cpp", help="of llama.cpp's families")
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.model)
    encode = tokenizer.encode
    text = encode(Words("rounding").take(100), add_special=False, parse_special=False)[:100]
    has_flash_attention = open_library(arguments.library).traits.has_flash_attention
    tables = {
        kind: _shifts_of(arguments, text, is_flash, chunk)
        for kind, is_flash, chunk in (("plain", False, 128), ("flash", True, 48))
        if has_flash_attention or not is_flash
    }
    config = _config(arguments, False)
    engine = LlamaCppEngine(config, arguments.model, tokenizer)
    prompt = encode("Tell a story about the number 49:", add_special=False, parse_special=False)
    traces = []
    for case in CASES:
        traces.append(trace(engine, prompt, case, arguments.every).row())
        print(traces[-1], flush=True)
    engine.close()
    write_json("rounding", {"machine": machine(), "shifts": tables, "traces": traces})
    if any(row["other_draws"] or row["not_in_the_gap"] for row in traces):
        raise SystemExit("an answer parted for another reason than rounding")


def _config(arguments: argparse.Namespace, is_flash: bool) -> EngineConfig:
    return EngineConfig(
        max_num_seqs=NUM_SLOTS + 1,
        max_model_len=512,
        num_kv_tokens=2048,
        prefix_caching="off",
        llama_cpp=LlamaCppConfig(
            library=arguments.library,
            num_threads=arguments.threads,
            use_extra_bufts=False,
            repack_tensors=False,
            flash_attention=is_flash,
        ),
    )


def _shifts_of(
    arguments: argparse.Namespace, text: list[int], is_flash: bool, chunk: int
) -> dict[str, float]:
    probe = Probe(arguments.model, _config(arguments, is_flash), text)
    table = dict(shifts(probe, len(text), chunk))
    probe.close()
    kind = "flash" if is_flash else "plain"
    for name, value in table.items():
        print(f"{kind}, {name}: {value:.3f}", flush=True)
    return table


if __name__ == "__main__":
    main()
