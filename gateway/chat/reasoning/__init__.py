"""Reasoning: how much of it, in which format, and where it ends."""
