"""A database in a PostgreSQL server, which several gateways may share."""
