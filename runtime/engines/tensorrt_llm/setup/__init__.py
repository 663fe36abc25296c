"""What is settled before TensorRT-LLM loads: the package, the checkpoint, its options."""
