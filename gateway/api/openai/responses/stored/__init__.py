"""Responses that the server remembers."""
