"""Tensors on their way: rows in, dequantized, measured, written as safetensors."""
