"""uvicorn's server and connections: limits, what clients really send, and an end in time."""
