"""Reasoning: its budget, its format, and where it ends."""
