"""One file for each tool dialect."""
