"""The older class, which runs engines that were built before: only releases that have it."""

import json
from pathlib import Path
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
    C++. The engines that it builds are empty files."""

    def __init__(self, model: Any, **kwargs: Any) -> None:
        for name in kwargs:
            if name not in TrtLlmArgs.model_fields:
                raise ValueError(f"TrtLlmArgs got invalid argument: {name}")
        TrtLlmArgs(model=model, **kwargs)
        shared = {name: kwargs[name] for name in kwargs if name in TorchLlmArgs.model_fields}
        self._build_config = kwargs.get("build_config")
        super().__init__(model, **shared, sampler_type="TRTLLMSampler")

    def save(self, engine_dir: str) -> None:
        """A folder with the engine and what it was built for."""
        if self._build_config is None:
            raise RuntimeError("The engine is not built yet.")
        folder = Path(engine_dir)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rank0.engine").write_bytes(b"\0")
        config = {"build_config": self._build_config.model_dump(), "pretrained_config": {}}
        (folder / "config.json").write_text(json.dumps(config))
