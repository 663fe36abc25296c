"""What fits on a GPU and how fast it can be: pure arithmetic over shapes and figures."""
