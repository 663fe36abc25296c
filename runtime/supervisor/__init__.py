"""The life of one engine process: start, watch, restart."""
