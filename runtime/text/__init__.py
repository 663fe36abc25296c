"""Tokens to text: incremental UTF-8, stop strings, where reasoning ends."""
