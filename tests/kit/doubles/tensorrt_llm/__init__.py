"""A double of TensorRT-LLM's Python API for tests: see README.md in the folder above."""

from .facts import fact

__version__: str = fact("version")

from .llmapi import LLM, SamplingParams  # after the version, as the package has it

__all__ = ["LLM", "SamplingParams", "__version__"]
