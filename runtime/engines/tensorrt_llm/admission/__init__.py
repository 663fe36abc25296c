"""Whether the engine takes a request, and when it has room for it."""
