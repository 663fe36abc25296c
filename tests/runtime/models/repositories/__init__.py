"""Tests of `runtime.models.repositories`."""
