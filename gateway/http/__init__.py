"""HTTP code shared by all endpoints: bodies, streaming, errors, connections, deadlines."""
