"""Hugging Face checkpoint folders: configuration, tokenizer and chat templates, without torch."""
