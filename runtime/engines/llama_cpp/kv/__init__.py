"""Which cells of llama.cpp's KV cache hold which tokens, and prefixes that requests share."""
