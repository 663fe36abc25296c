"""What is HTTP and belongs to no endpoint: bodies, streaming, errors, connections, deadlines."""
