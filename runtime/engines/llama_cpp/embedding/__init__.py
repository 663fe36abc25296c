"""Embeddings with llama.cpp: texts batched, pooled and normalised."""
