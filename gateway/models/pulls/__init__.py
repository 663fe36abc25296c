"""Downloads of models while the server runs."""
