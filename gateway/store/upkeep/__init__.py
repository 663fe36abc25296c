"""Keeping the store in bounds: what is deleted when, and what it takes."""
