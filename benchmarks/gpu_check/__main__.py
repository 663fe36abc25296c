"""Does TensorRT-LLM do on this machine what Lockgate relies on?

    scripts/gpu-check FOLDER_OF_A_MODEL
    scripts/gpu-check FOLDER_OF_A_MODEL --out results --set engine.max_num_seqs=8

One step after another: the machine, the plan against the driver, the memory's bandwidth, the start,
each kind of answer, a client that leaves, an engine that is killed, eight streams against the plan.
It needs no network, and ends after ten minutes. The exit status is 1 if a step has failed.
"""

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx
from server import ServerDied, environment_of, free_port, running, wait_for

from gpu_check import answers, hardware, page
from gpu_check.answers import Server
from gpu_check.steps import Facts, Result, Skip, Steps, Wrong, expect
from runtime.models.store import ModelStore
from runtime.planning.plan_source import find_planned_model
from runtime.planning.precisions import PRECISIONS
from runtime.planning.roofline import roofline
from runtime.version import __version__

CONTEXT_TOKENS = 128
ANSWERS: tuple[Callable[[Server], Facts], ...] = (
    answers.chat,
    answers.stream,
    answers.choices,
    answers.logprobs,
    answers.schema,
    answers.tools,
    answers.abort,
    answers.kill,
)


def main() -> int:
    arguments = _arguments()
    steps = Steps(60 * arguments.minutes)
    head = {
        "lockgate": __version__,
        "model": arguments.folder.name,
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    show(steps.take("machine", hardware.machine))
    show(steps.take("plan", partial(hardware.plan_against_driver, arguments.folder)))
    show(steps.take("bandwidth", hardware.bandwidth))
    serve(steps, arguments.folder, dict(each.split("=", 1) for each in arguments.set))
    written = page.write(arguments.out, head, steps.results)
    print(*(f"written: {file}" for file in written), sep="\n")
    return 1 if steps.has_failed else 0


def serve(steps: Steps, folder: Path, settings: dict[str, str]) -> None:
    """The steps with a server. One that does not start fails the step `start`, and there are no
    others then."""
    own = {
        "engine.name": "tensorrt_llm",
        "model.name_or_path": str(folder),
        "model.served_name": "checked",
    }
    port = free_port()
    environment = environment_of({**own, **settings, "server.port": str(port)})
    started = time.monotonic()
    try:
        with running([sys.executable, "-m", "gateway", "serve"], environment) as process:
            check = partial(_is_ready, Server(port, process.pid, "checked"))
            wait_for(port, "/health", max(steps.seconds_left, 1.0), check, process)
            seconds = time.monotonic() - started
            server = Server(port, process.pid, "checked")
            show(steps.take("start", partial(_started, server, seconds)))
            for step in ANSWERS:
                show(steps.take(step.__name__, partial(step, server)))
            show(steps.take("streams", partial(_streams, server, folder)))
    except (ServerDied, TimeoutError, Wrong) as error:
        show(steps.fail("start", time.monotonic() - started, error))


def _is_ready(server: Server, _: bytes) -> bool:
    """Raises Wrong, with the server's reason, when the engine has failed for good."""
    try:
        health = server.http.get("/health").json()
    except httpx.TransportError:  # it does not listen yet
        return False
    expect(health["state"] != "failed", f"the engine does not start: {health['reason']}")
    return bool(server.http.get("/health/ready").status_code == 200)


def _started(server: Server, seconds: float) -> Facts:
    health = server.http.get("/health").json()
    try:
        used: int | None = hardware.reading().memory_used
    except Skip:
        used = None
    kept = ("engine", "limits", "state", "reason")
    return {"seconds": seconds, "gpu_memory_used": used, **{name: health[name] for name in kept}}


def _streams(server: Server, folder: Path) -> Facts:
    """Eight streams, as a share of what the memory's bandwidth allows at most."""
    facts = dict(answers.streams(server, hardware.NUM_STREAMS))
    try:
        _, spec = hardware.plan(folder)
    except Skip as reason:
        return {**facts, "plan": str(reason)}
    model = find_planned_model(str(folder), ModelStore())
    stored = None if model.stored is None else model.stored.precision
    precision = PRECISIONS[stored or "bf16"]
    most = roofline(
        model.shape, spec, precision, num_streams=hardware.NUM_STREAMS, context=CONTEXT_TOKENS
    ).tokens_per_second
    return {**facts, "at_most": most, "share": facts["tokens_per_second"] / most}


def show(result: Result) -> None:
    print(f"{result.outcome:8}{result.seconds:7.1f} s  {result.name}  {result.reason}", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu-check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="a checkpoint folder, small enough for the GPU")
    parser.add_argument("--out", type=Path, default=Path("."), help="where to write the page")
    parser.add_argument("--minutes", type=float, default=10.0, help="stop after so many (10)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="a setting of the server"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
