"""/v1/conversations: items in their order that the server remembers, for many responses."""
