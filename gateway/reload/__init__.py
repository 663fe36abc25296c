"""Changed settings, keys and certificates take effect while the server runs."""
