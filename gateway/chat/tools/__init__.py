"""Tool calls: the allowed calls, the dialects of models, the parsers."""
