"""Parses the text of a chat answer into content, reasoning and tool calls. Pure, incremental."""
