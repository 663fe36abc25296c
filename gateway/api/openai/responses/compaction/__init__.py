"""Long conversations: the model sums up what it will not read again."""
