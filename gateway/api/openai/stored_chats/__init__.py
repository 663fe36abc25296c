"""Chat completions that the server remembers."""
