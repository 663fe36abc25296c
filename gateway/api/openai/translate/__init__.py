"""From OpenAI's requests to what the gateway does; mistakes are named in OpenAI's words."""
