"""What a client is told of its request: fields without effect, and keywords that are left out."""
