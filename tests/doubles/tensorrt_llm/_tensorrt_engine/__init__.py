"""The older class, which runs engines that were built before: only releases that have it."""

from typing import Any

from ..facts import RELEASE, fact

if not fact("has_tensorrt_engine"):
    raise ModuleNotFoundError(
        f"No module named 'tensorrt_llm._tensorrt_engine' in release {RELEASE}", name=__name__
    )

from ..llmapi.llm import LLM as TorchLLM
from ..llmapi.llm_args import TorchLlmArgs, TrtLlmArgs


class LLM(TorchLLM):
    """Takes the arguments of its own class, and speaks as the other one does with the sampler in
    C++. It builds nothing."""

    def __init__(self, model: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in TrtLlmArgs.model_fields:
                raise ValueError(f"TrtLlmArgs got invalid argument: {name}")
        TrtLlmArgs(model=model, **kwargs)
        shared = {name: kwargs[name] for name in kwargs if name in TorchLlmArgs.model_fields}
        super().__init__(model, **shared, sampler_type="TRTLLMSampler")
