"""What the server remembers: records in a database, each with an owner."""
