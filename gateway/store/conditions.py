"""What a query asks for, in the words of SQL that all databases here share."""

from gateway.store.record import Query


def conditions(query: Query, mark: str, place: str) -> tuple[str, list[object]]:
    """What follows WHERE, with `mark` for each parameter, and the values of the parameters. `place`
    asks for the position of a record, with its kind and its id as parameters."""
    pairs: list[tuple[str, object]] = [("kind", query.kind)]
    if query.owner is not None:
        pairs.append(("owner", query.owner))
    if query.parent is not None:
        pairs.append(("parent", query.parent))
    parts = [f"{column} = {mark}" for column, _ in pairs]
    values = [value for _, value in pairs]
    if query.parent:
        parts.append("parent <> ''")  # which a database has to see to use the index of parents
    behind, ahead = ("<", ">") if query.newest_first else (">", "<")
    for cursor, sign in ((query.after, behind), (query.before, ahead)):
        if cursor:
            parts.append(f"position {sign} ({place})")
            values += [query.kind, cursor]
    return " AND ".join(parts), values
