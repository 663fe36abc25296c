"""The engine process: it takes requests from the border, queues them, runs steps and emits text."""
