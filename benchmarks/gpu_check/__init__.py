"""Checks a machine with an NVIDIA GPU and TensorRT-LLM: `scripts/gpu-check FOLDER_OF_A_MODEL`."""
