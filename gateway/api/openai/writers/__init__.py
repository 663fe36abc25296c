"""From the events of an answer to the bytes of OpenAI's responses and streams."""
