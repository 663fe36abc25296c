"""Chat templates: what they can do, and how they are rendered."""
