"""Commands about what the server remembers."""
