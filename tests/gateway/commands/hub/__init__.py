"""Tests of `gateway.commands.hub`."""
