"""Preparation before TensorRT-LLM loads: the package, the checkpoint, the arguments."""
