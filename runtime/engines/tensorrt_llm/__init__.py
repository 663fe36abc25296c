"""The TensorRT-LLM engine: it serves checkpoint folders on NVIDIA GPUs. Batching is done by
TensorRT-LLM, called "the package" here."""
