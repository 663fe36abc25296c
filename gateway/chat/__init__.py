"""Input and output of a chat model: templates, tools, reasoning. Pure: no HTTP, no engine."""
