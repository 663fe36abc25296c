"""The engine-building API: only its import is played, and only by releases that have it."""

from typing import Any

from ..facts import RELEASE, fact

if not fact("has_tensorrt_engine"):
    raise ModuleNotFoundError(
        f"No module named 'tensorrt_llm._tensorrt_engine' in release {RELEASE}", name=__name__
    )


class LLM:
    """Cannot be made: this double has no engine builder."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError("the double plays the PyTorch backend alone")
