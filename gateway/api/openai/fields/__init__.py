"""What becomes of fields that an endpoint does not declare: names of other servers, and its own."""
