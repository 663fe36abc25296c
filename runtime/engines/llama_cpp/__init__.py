"""The engine on llama.cpp: GGUF files on any machine, batched continuously by our own scheduler."""
