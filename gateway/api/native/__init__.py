"""Lockgate's own endpoints: token ids in and out, tokenizing."""
