"""OpenAI's API: one module of routes for each endpoint."""
