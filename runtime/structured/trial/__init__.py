"""A grammar is compiled on trial: in a process of its own that may be killed."""
