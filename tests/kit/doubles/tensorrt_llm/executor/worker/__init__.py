"""The worker: what the engine does with its requests, iteration by iteration."""
