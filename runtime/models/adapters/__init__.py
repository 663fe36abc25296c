"""LoRA adapters in GGUF files: what their headers say, and whether they fit a model."""
