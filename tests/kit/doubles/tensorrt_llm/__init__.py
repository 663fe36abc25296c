"""A double of TensorRT-LLM's Python API for tests: see README.md in the folder above."""

from .facts import RELEASE

__version__: str = RELEASE

from .llmapi import LLM, SamplingParams  # after the version, as the package has it

__all__ = ["LLM", "SamplingParams", "__version__"]
