"""What TensorRT-LLM needs of a machine beside its package, one check for each."""
