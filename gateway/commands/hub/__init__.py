"""Commands about models on the hub and on this machine's disk."""
