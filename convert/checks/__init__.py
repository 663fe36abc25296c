"""Proof that a checkpoint is right: inspection, verification, decoding, offers."""
