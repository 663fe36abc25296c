"""The engines by name: what is known of each without starting it.

A new engine needs an entry here, its name and its section in `runtime.config.engine`, a line in
`runtime.engines`, and a check in `runtime.hardware.engine_checks` of whether it can run.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from runtime.config.engine import EngineName
from runtime.config.tensorrt_llm import SINGLE_PROCESS


class EnginePackage(NamedTuple):
    """A Python package that an engine stands on: its module, and its name for people and `pip`."""

    module: str
    name: str


class EngineKind(Struct, frozen=True, kw_only=True):
    """What an engine needs, known without starting it.

    `model_form` is the form of the models that it loads; "any" is for an engine that needs a
    tokenizer at most. One of `packages` must be installed, if there are any; the extra `extra` of
    this project installs the first. An engine that `grows_while_serving` takes more GPU memory
    after it has loaded the model. `start_advice` is for people whose engine hangs while it starts.
    """

    model_form: Literal["gguf", "folder", "any"]
    packages: tuple[EnginePackage, ...] = ()
    extra: str = ""
    grows_while_serving: bool = False
    start_advice: str = ""


ENGINES: Mapping[EngineName, EngineKind] = {
    "llama_cpp": EngineKind(
        model_form="gguf",
        packages=(
            EnginePackage("ik_llama_cpp", "ik-llama-cpp-python"),
            EnginePackage("llama_cpp", "llama-cpp-python"),
        ),
        extra="cpu",
    ),
    "tensorrt_llm": EngineKind(
        model_form="folder",
        packages=(EnginePackage("tensorrt_llm", "TensorRT-LLM"),),
        extra="tensorrt",
        grows_while_serving=True,
        start_advice=(
            f"If it waited for MPI, set {SINGLE_PROCESS}=1 in the server's environment"
            " (docs/tensorrt-llm.md). If the autotuner takes so long, raise engine.start_timeout."
        ),
    ),
    "scripted": EngineKind(model_form="any"),
}
