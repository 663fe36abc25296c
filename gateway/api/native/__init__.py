"""Lockgate's own endpoints: /generate, /tokenize and /detokenize."""
