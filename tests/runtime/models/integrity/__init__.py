"""Tests of `runtime.models.integrity`."""
