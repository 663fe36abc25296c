"""Grammars: schemas and expressions compiled, and the tokens that each allows next."""
