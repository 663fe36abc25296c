"""What the programs share: their options, their streams, and how they end."""
