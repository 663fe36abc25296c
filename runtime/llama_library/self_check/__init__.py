"""Whether a library computes what it should on this processor: a tiny model in a child process."""
