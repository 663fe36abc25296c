"""What the schemas of a test suite and hard grammars do to structured outputs.

    python benchmarks/bench_grammars.py suite FOLDER     JSON-Schema-Test-Suite, a draft's folder
    python benchmarks/bench_grammars.py hard MODEL.gguf  with the vocabulary of a model

`suite` counts the schemas that compile in full, those that lose keywords, and of both the suite's
instances that are treated as the suite says. `hard` prints how long compiling and single tokens
take.
"""

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import InvalidRequest
from runtime.messages.request import SamplingParams
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.grammars import GrammarCompiler
from runtime.structured.guide import Guide
from runtime.tokenizers.load import load_tokenizer

MAX_TOKENS = 200
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b", "c"]}, "maxItems": 3},
        "address": {
            "type": "object",
            "properties": {"street": {"type": "string"}, "zip": {"pattern": "^[0-9]{5}$"}},
            "required": ["street", "zip"],
        },
    },
    "required": ["name", "age", "tags", "address"],
    "additionalProperties": False,
}


def objects(num_properties: int) -> str:
    names = [f"p{number}" for number in range(num_properties)]
    return json.dumps({"properties": {name: {"type": "string"} for name in names}})


HARD = {
    "an ordinary schema": StructuredOutput(json=json.dumps(PERSON)),
    "any object": StructuredOutput(json_object=True),
    "300 optional properties": StructuredOutput(json=objects(300)),
    "5,000 optional properties": StructuredOutput(json=objects(5000)),
    "20,000 words": StructuredOutput(regex="|".join(f"w{i}x{i * 7919}" for i in range(20_000))),
    "100,000 words": StructuredOutput(choice=tuple(f"{i * 7919}" for i in range(100_000))),
    "2^200 states": StructuredOutput(regex="[ab]*a[ab]{200}"),
    "states of 31 letters": StructuredOutput(regex="(.*a.{30}){10}"),
    "counters in counters": StructuredOutput(regex="((a{1,100}){1,100}){1,100}"),
    "500 optional letters": StructuredOutput(regex="(a?){500}a{500}"),
    "an ambiguous grammar": StructuredOutput(grammar='start: a\na: a a | "x" |'),
    "22 alternatives of two": StructuredOutput(
        json=json.dumps(
            {"allOf": [{"anyOf": [{"required": [f"{x}{i}"]} for x in "ab"]} for i in range(22)]}
        )
    ),
}


def suite(folder: Path) -> None:
    compiler = GrammarCompiler(load_tokenizer(""))
    schemas, instances, reasons = Counter[str](), Counter[str](), Counter[str]()
    for group in _groups(folder):
        wanted = StructuredOutput(json=json.dumps(group["schema"]))
        try:
            grammar = compiler.compile(wanted).result()
        except InvalidRequest as error:
            schemas["refused"] += 1
            reasons[str(error).partition("enforced: ")[2].rpartition("`: ")[2][:60]] += 1
            continue
        kind = "loosened" if grammar.left_out else "compiled"
        schemas[kind] += 1
        for test in group["tests"]:
            guide = Guide(grammar, SamplingParams(max_tokens=1, structured_output=wanted))
            wanted_verdict = "valid" if test["valid"] else "invalid"
            verdict = "valid" if _accepts(guide, test["data"]) else "invalid"
            instances[f"{kind}: {wanted_verdict}, taken for {verdict}"] += 1
    compiler.close()
    for title, counts in (("schemas", schemas), ("instances", instances), ("reasons", reasons)):
        print(title)
        for name, count in counts.most_common(20):
            print(f"  {count:5} {name}")


def _groups(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(folder.glob("*.json")):
        yield from json.loads(path.read_text())


def _accepts(guide: Guide, data: Any) -> bool:
    try:
        guide.push(list(json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")))
    except InvalidRequest:
        return False
    return bool(guide.allowed[257])  # the built-in tokenizer's end of sequence


def hard(model: Path) -> None:
    tokenizer = load_tokenizer(model)
    compiler = GrammarCompiler(tokenizer)
    compiler.compile(StructuredOutput(regex="warm up")).result()
    print(f"{'grammar':28} {'compile':>9} {'tokens':>6} {'median':>9} {'longest':>9}  end")
    for name, wanted in HARD.items():
        started = time.perf_counter()
        try:
            grammar = compiler.compile(wanted).result()
        except InvalidRequest as error:
            print(f"{name:28} {_ms(time.perf_counter() - started)} {str(error)[:90]}")
            continue
        compiled = time.perf_counter() - started
        times, end = _walk(Guide(grammar, SamplingParams(max_tokens=1, structured_output=wanted)))
        middle, longest = statistics.median(times), max(times)
        print(f"{name:28} {_ms(compiled)} {len(times):6} {_ms(middle)} {_ms(longest)}  {end[:60]}")
    compiler.close()


def _walk(guide: Guide) -> tuple[list[float], str]:
    """Seconds for each token of a random answer, and how it ended."""
    generator = random.Random(0)
    times: list[float] = []
    token_ids: list[int] = []
    while len(times) < MAX_TOKENS:
        started = time.perf_counter()
        try:
            guide.push(token_ids)
        except InvalidRequest as error:
            return [*times, time.perf_counter() - started], str(error).rpartition(": ")[2]
        times.append(time.perf_counter() - started)
        if guide.is_complete:
            return times, "complete"
        token_ids = [int(generator.choice(np.flatnonzero(guide.allowed).tolist()))]
        if token_ids[0] in guide.end_token_ids:
            return times, "ended"
    return times, "goes on"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:6.2f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["suite", "hard"])
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    {"suite": suite, "hard": hard}[arguments.what](arguments.path)


if __name__ == "__main__":
    main()
