"""Rerank and score."""
