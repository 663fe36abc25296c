"""What is read of a conversation that is too long for its model."""
