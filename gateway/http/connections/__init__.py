"""uvicorn's connections, with limits, and with what clients really send."""
