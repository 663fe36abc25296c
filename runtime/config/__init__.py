"""Settings of engines and of the worker process."""
