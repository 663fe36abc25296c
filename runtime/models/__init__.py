"""Model files: the catalogue, downloads, the folder they lie in, and readers of their headers."""
