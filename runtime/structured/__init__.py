"""Structured output: constraints compiled to grammars, and the tokens that a grammar allows
next."""
