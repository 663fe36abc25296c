"""Readers of the source model: GGUF files, and Hugging Face folders, plain or packed."""
