"""The peer: NVIDIA Dynamo's front end with its mock engine, on the CPU.

It is installed by whoever wants the comparison, in an environment of its own; see README.md.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from server import RunningServer, free_port, running, wait_for

MODEL = "mock"
MAX_NUM_SEQS = "1024"


@contextlib.contextmanager
def dynamo(
    python: Path, model: Path, *, speedup: str, timeout: float = 90.0
) -> Iterator[RunningServer]:
    """Front end and mock engine as two processes; the front end is the one that is measured.

    `model` is a folder with config.json, generation_config.json, tokenizer.json and
    tokenizer_config.json; no weights are needed. The mock engine computes at the pace of a real
    one, times `speedup`.
    """
    port = free_port()
    front_end = [str(python), "-m", "dynamo.frontend", "--http-host", "127.0.0.1"]
    front_end += ["--http-port", str(port)]
    engine = [str(python), "-m", "dynamo.mocker", "--model-path", str(model)]
    engine += ["--model-name", MODEL, "--speedup-ratio", speedup]
    engine += ["--max-num-seqs", MAX_NUM_SEQS]
    with tempfile.TemporaryDirectory(prefix="dynamo-", ignore_cleanup_errors=True) as folder:
        environment = _environment(folder)
        with running(front_end, environment) as process, running(engine, environment):
            wait_for(port, "/v1/models", timeout, lambda body: MODEL.encode() in body)
            yield RunningServer("dynamo", process.pid, port, MODEL)


def _environment(folder: str) -> dict[str, str]:
    """Discovery through files and TCP between the two: no other service is needed. Its log is
    kept as quiet as ours."""
    return {
        **os.environ,
        "DYN_DISCOVERY_BACKEND": "file",
        "DYN_FILE_KV": folder,
        "DYN_REQUEST_PLANE": "tcp",
        "DYN_EVENT_PLANE": "zmq",
        "DYN_LOG": "warn",
        "HF_HUB_OFFLINE": "1",
    }
