"""A hub of models on loopback that speaks the real one's HTTP."""
