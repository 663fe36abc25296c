"""What crosses the border between gateway and engine process: frozen Structs and their encoding."""
