"""The HTTP side of Lockgate: OpenAI's shapes, chat semantics, streaming. It never sees a batch."""
