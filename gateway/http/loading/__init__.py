"""Requests for models that have to be loaded first."""
