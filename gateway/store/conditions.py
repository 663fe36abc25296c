"""What a query asks for, in the words of SQL that all databases here share."""

from gateway.store.record import Query


def conditions(query: Query, table: str, mark: str) -> tuple[str, list[object]]:
    """What follows WHERE, with `mark` for each parameter, and the values of the parameters."""
    pairs: list[tuple[str, object]] = [("kind", query.kind)]
    if query.owner is not None:
        pairs.append(("owner", query.owner))
    if query.parent is not None:
        pairs.append(("parent", query.parent))
    parts = [f"{column} = {mark}" for column, _ in pairs]
    values = [value for _, value in pairs]
    behind, ahead = ("<", ">") if query.newest_first else (">", "<")
    place = f"(SELECT position FROM {table} WHERE kind = {mark} AND id = {mark})"
    for cursor, sign in ((query.after, behind), (query.before, ahead)):
        if cursor:
            parts.append(f"position {sign} {place}")
            values += [query.kind, cursor]
    return " AND ".join(parts), values
