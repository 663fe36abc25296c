"""Tokenizers built from the vocabulary of a GGUF file."""
