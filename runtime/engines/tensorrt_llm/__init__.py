"""The engine on TensorRT-LLM: checkpoint folders on an NVIDIA GPU, batched by the package."""
