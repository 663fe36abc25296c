"""This machine: its GPUs, the guard of their memory, and the engines that can run on it."""
