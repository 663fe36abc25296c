"""Does every sampled answer that ends with `stop` fit its schema? A real server, a real model.

    scripts/bench sampled_schemas MODEL.gguf FOLDER

FOLDER is a draft's folder of the JSON-Schema-Test-Suite. Half of the schemas come from there, in
random order, as far as the server does not refuse them; half are made up as in the project's tests.
The order depends on `--seed` alone; exits with 1 if an answer does not fit.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from random import Random

from machine import machine
from report import write_json
from sampled_schemas import Sampling, Schema, enforced, sample, suite_schemas
from server import ROOT, gateway

sys.path.insert(0, str(ROOT))

from tests.kit.random_schemas import random_schema


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--schemas", type=int, default=50)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("--max-tokens", type=int, default=48)
    parser.add_argument("--temperature", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    settings = {
        "engine.name": "llama_cpp",
        "engine.max_num_seqs": str(arguments.concurrency),
        "model.name_or_path": str(arguments.model),
        "model.served_name": "sampled",
    }
    sampling = Sampling("sampled", arguments.max_tokens, arguments.temperature, seed=arguments.seed)
    started = time.perf_counter()
    with gateway(settings, model="sampled", timeout=300) as server:
        schemas = _schemas(server.port, arguments)
        verdicts = sample(
            server.port,
            schemas,
            sampling,
            num_answers=arguments.answers,
            concurrency=arguments.concurrency,
        )
    counts = {
        "schemas": len(schemas),
        "finish_reasons": dict(verdicts.reasons),
        "valid": verdicts.num_valid,
        "invalid": len(verdicts.invalid),
        "failures": len(verdicts.failures),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(counts, indent=1))
    found = {"invalid": verdicts.invalid, "failures": verdicts.failures}
    details = {"machine": machine(), "sampling": asdict(sampling), "schemas": schemas}
    write_json("sampled_schemas", {**details, "counts": counts, "found": found})
    sys.exit(bool(verdicts.invalid or verdicts.failures))


def _schemas(port: int, arguments: argparse.Namespace) -> list[Schema]:
    random = Random(arguments.seed)
    candidates = list(suite_schemas(arguments.suite))
    random.shuffle(candidates)
    from_suite = enforced(port, "sampled", candidates, arguments.schemas // 2)
    num_made_up = arguments.schemas - len(from_suite)
    return from_suite + [random_schema(random) for _ in range(num_made_up)]


if __name__ == "__main__":
    main()
