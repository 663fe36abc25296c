"""OpenAI's requests, answers and chunks as Structs."""
