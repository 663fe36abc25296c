"""Text of a chat's answer to content, reasoning and tool calls. Pure, and incremental."""
