"""Responses that are made while no client waits for them."""
