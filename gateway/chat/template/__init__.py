"""Chat templates: their capabilities and their rendering."""
