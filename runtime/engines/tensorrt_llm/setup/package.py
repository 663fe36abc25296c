"""The installed TensorRT-LLM: the modules of its classes, and what it supports.

Releases are distinguished by signatures and fields, never by their version: a release candidate may
have one half of what its number promises (docs/tensorrt-llm-contract.md, 10.14 and 11).
"""

import dataclasses
import inspect
from importlib import import_module
from typing import Any

from msgspec import Struct

from runtime.errors import MissingExtra, SetupError
from runtime.planning.precisions import Kernels


class Package(Struct, frozen=True):
    """The classes that the engine uses. `arguments` are the names that the constructor takes,
    `generate_parameters` those of `generate_async`."""

    version: str
    llm_class: Any
    arguments: frozenset[str]
    sampling_class: Any
    sampling_fields: frozenset[str]
    generate_parameters: frozenset[str]
    request_error: type[Exception]
    is_legacy: bool

    @property
    def has_priority(self) -> bool:
        """Whether requests may carry a priority and the scheduler can be configured to use it
        (docs/tensorrt-llm-contract.md, 2.1): one without the other has no effect."""
        scheduler = fields_of(find_class("SchedulerConfig"))
        return "priority" in self.generate_parameters and "waiting_queue_policy" in scheduler

    @property
    def kernels(self) -> Kernels:
        """The age of its kernels, which nothing tells: of a method that came after those that the
        planner has to know (docs/tensorrt-llm-contract.md, 8.4)."""
        return "late" if hasattr(self.llm_class, "get_kv_cache_capacity") else "stable"

    def has_native_penalties(self, sampler: str) -> bool:
        """Whether the sampler in use applies penalties. In releases with a choice of samplers, the
        one in Python silently ignores them (docs/tensorrt-llm-contract.md, 4.4)."""
        may_choose = "sampler_type" in self.arguments
        return self.is_legacy or sampler == "trtllm" or not may_choose


def load_package(*, legacy: bool = False) -> Package:
    """Imports TensorRT-LLM. `legacy` takes the class for TensorRT engines, which only older
    releases have.

    Raises MissingExtra if the package is not installed, SetupError if it does not load here or
    lacks a class.
    """
    package = _import_package()
    llm_class, arguments_class = _legacy_classes() if legacy else _classes(package)
    return Package(
        version=str(package.__version__),
        llm_class=llm_class,
        arguments=fields_of(arguments_class),
        sampling_class=package.SamplingParams,
        sampling_fields=fields_of(package.SamplingParams),
        generate_parameters=frozenset(inspect.signature(llm_class.generate_async).parameters),
        request_error=find_class("RequestError"),
        is_legacy=legacy,
    )


def fields_of(kind: Any) -> frozenset[str]:
    """The names of the fields of a pydantic model or a dataclass."""
    if dataclasses.is_dataclass(kind):
        return frozenset(field.name for field in dataclasses.fields(kind))
    return frozenset(kind.model_fields)


def find_class(*names: str) -> Any:
    """The first of these classes that the installed release has. Raises SetupError for none."""
    for name in names:
        if (found := _look_up(name)) is not None:
            return found
    raise SetupError(
        f"The installed TensorRT-LLM has no {' and no '.join(names)}: this release is not"
        " supported. Install one that is: pip install 'lockgate[tensorrt]'"
    )


_PLACES = (
    "tensorrt_llm.llmapi",
    "tensorrt_llm.executor",
    "tensorrt_llm.executor.utils",
    "tensorrt_llm.executor.request",
    "tensorrt_llm.lora_helper",
    "tensorrt_llm._torch.peft.lora.config",
)
"""Modules that may have a class, depending on the release, in the order of the search
(docs/tensorrt-llm-contract.md, 2.3 and 11)."""


def _look_up(name: str) -> Any:
    for place in _PLACES:
        try:
            found = getattr(import_module(place), name, None)
        except ModuleNotFoundError as error:
            if error.name is None or not place.startswith(error.name):
                raise  # the module exists, but one of its imports does not
            continue
        if found is not None:
            return found
    return None


def _import_package() -> Any:
    try:
        return import_module("tensorrt_llm")
    except ModuleNotFoundError as error:
        if error.name == "tensorrt_llm":
            raise MissingExtra("TensorRT-LLM", "tensorrt") from error
        raise SetupError(
            f"TensorRT-LLM needs the package {error.name}, which is missing"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:  # a shared library or a driver is missing
        raise SetupError(f"TensorRT-LLM is installed and does not load: {error}") from error


def _classes(package: Any) -> tuple[Any, Any]:
    return package.LLM, import_module("tensorrt_llm.llmapi.llm_args").TorchLlmArgs


def _legacy_classes() -> tuple[Any, Any]:
    try:
        llm_class = import_module("tensorrt_llm._tensorrt_engine").LLM
        return llm_class, import_module("tensorrt_llm.llmapi.llm_args").TrtLlmArgs
    except (ModuleNotFoundError, AttributeError) as error:
        raise SetupError(
            "model.name_or_path is a folder of TensorRT engines, which the installed TensorRT-LLM"
            " cannot load any more: late candidates of 1.3, and 1.4, lack the class for them. Serve"
            " the model's Hugging Face folder instead, or install TensorRT-LLM 1.2."
        ) from error
