"""The engines by name: what is known of each without starting it.

A new engine needs an entry here, its name and its section in `runtime.config.engine`, a line in
`runtime.engines`, and a check in `runtime.hardware.engine_checks` of whether it can run.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from runtime.config.engine import EngineName


class EngineKind(Struct, frozen=True, kw_only=True):
    """What an engine needs, known without starting it.

    `model_form` is the form of the models that it loads; "any" is for an engine that needs a
    tokenizer at most. `module` is the Python module that must be installed, which `package` names
    for people and the extra `extra` of this project installs; "" for none. An engine that
    `grows_while_serving` takes more GPU memory after it has loaded the model. `start_advice` is for
    people whose engine hangs while it starts.
    """

    model_form: Literal["gguf", "folder", "any"]
    module: str = ""
    package: str = ""
    extra: str = ""
    grows_while_serving: bool = False
    start_advice: str = ""


ENGINES: Mapping[EngineName, EngineKind] = {
    "llama_cpp": EngineKind(
        model_form="gguf", module="llama_cpp", package="llama-cpp-python", extra="cpu"
    ),
    "tensorrt_llm": EngineKind(
        model_form="folder",
        module="tensorrt_llm",
        package="TensorRT-LLM",
        extra="tensorrt",
        grows_while_serving=True,
        start_advice=(
            "If it waited for MPI, set TLLM_WORKER_USE_SINGLE_PROCESS=1 in the server's environment"
            " (docs/tensorrt-llm.md). If the autotuner takes so long, raise engine.start_timeout."
        ),
    ),
    "scripted": EngineKind(model_form="any"),
}
