"""What a chat model reads and writes: templates, tools, reasoning. Pure: no HTTP, no engine."""
