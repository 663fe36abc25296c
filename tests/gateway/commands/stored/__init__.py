"""Tests of `gateway.commands.stored`."""
