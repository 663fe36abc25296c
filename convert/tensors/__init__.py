"""Reads tensors, dequantizes them, measures errors, and writes safetensors files."""
