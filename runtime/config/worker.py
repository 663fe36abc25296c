"""What a worker process is started with, and how its environment depends on the engine."""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from runtime.config.engine import (
    EngineConfig,
)

LogForm = Literal["json", "text", "colored"]


class WorkerConfig(Struct, frozen=True, kw_only=True):
    """All that an engine process is told when it starts. `model_path` is empty for `scripted`
    without a tokenizer of its own. `address` is a ZeroMQ endpoint of the gateway, and `key` what it
    takes to connect there. `record` is the file for its `FlightRecorder`. `log_form` is that of its
    log lines."""

    address: str
    key: str
    record: str
    model_path: str
    engine: EngineConfig
    log_form: LogForm = "json"


_TENSORRT_ENVIRONMENT = {
    # The package reports the GPU, the model's architecture and its settings to NVIDIA otherwise.
    "TRTLLM_NO_USAGE_STATS": "1",
    # All of its processes are on this machine. Open MPI takes another interface otherwise, whose
    # packets a firewall or a virtual machine may drop: the start then waits for ever.
    "OMPI_MCA_btl_tcp_if_include": "lo",
    "OMPI_MCA_oob_tcp_if_include": "lo",
    # Open MPI 5 does not start its processes where the machine's name is very long.
    "PMIX_HOSTNAME": "localhost",
}


def engine_environment(config: EngineConfig, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of an engine's process: what it needs and what is given, which takes
    precedence."""
    needed = _needed(config)
    for kind in ("btl", "oob"):  # Open MPI does not start where interfaces are named in both ways
        if f"OMPI_MCA_{kind}_tcp_if_exclude" in given:
            needed.pop(f"OMPI_MCA_{kind}_tcp_if_include", None)
    return {**needed, **given}


def _needed(config: EngineConfig) -> dict[str, str]:
    if config.name == "llama_cpp":
        # Threads that wait for each other spin for a moment, then sleep. With OpenMP's own default
        # they spin until their time slice ends, and a step takes three times as long as soon as
        # another process wants a core (docs/performance.md).
        return {"GOMP_SPINCOUNT": "5000"}
    if config.name == "tensorrt_llm":
        return dict(_TENSORRT_ENVIRONMENT)
    return {}


CAUTION = (
    'engine.llama_cpp.library = "cautious", engine.llama_cpp.use_extra_bufts = false,'
    " engine.llama_cpp.repack_tensors = false"
)
"""The settings that `cautious` changes, in the words of the settings file."""


def cautious(config: EngineConfig) -> EngineConfig | None:
    """The settings to try after an engine died of a signal while it loaded; None if there are
    none. Kernels for the newest instruction sets are the usual cause: a virtual machine may show
    AMX and not carry it."""
    old = config.llama_cpp
    llama_cpp = msgspec.structs.replace(
        old,
        library="cautious" if old.library == "auto" else old.library,
        use_extra_bufts=False if old.use_extra_bufts == "auto" else old.use_extra_bufts,
        repack_tensors=False if old.repack_tensors == "auto" else old.repack_tensors,
    )
    if config.name != "llama_cpp" or llama_cpp == old:
        return None
    return msgspec.structs.replace(config, llama_cpp=llama_cpp)
