"""Offline work on checkpoints: it stands on `runtime` and never on `gateway`."""
