"""Requests that the server makes to itself."""
