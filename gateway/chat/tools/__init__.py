"""Tool calls: which may be made, how models write them, how they are parsed."""
