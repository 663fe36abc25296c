"""What requests have used: sums of tokens by hour, and what a key may use in a day or a month."""
