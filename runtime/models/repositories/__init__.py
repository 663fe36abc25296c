"""Repositories of the hub: names, listings, downloads, and the cache that its tools share."""
