"""Families of endpoints. Each has its wire types, translates them, and writes its answers."""
