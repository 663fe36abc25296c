"""This machine: its GPUs, the guard of their memory, what may be used of it, and its engines."""
