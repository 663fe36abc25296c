"""From OpenAI's requests to jobs. Mistakes are named by OpenAI's parameters."""
