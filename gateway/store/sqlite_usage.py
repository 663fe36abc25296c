"""The usage in SQLite. What is asked here is plain SQL, which PostgreSQL knows too."""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.store.usage import Counts, UsageKey, UsageQuery

Execute = Callable[[str, Any], list[Any]]
"""Runs a statement with its values, and returns the rows."""

_KEY = ("hour", "owner", "model", "endpoint", "is_batch")
_COUNTS = ("num_requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")
_ADD = f"""
INSERT INTO usage ({", ".join((*_KEY, *_COUNTS))}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT ({", ".join(_KEY)}) DO UPDATE SET
{", ".join(f"{name} = usage.{name} + excluded.{name}" for name in _COUNTS)}
"""
_NUMBER = "SELECT number FROM usage_writers WHERE writer = ?"
_SET_NUMBER = """
INSERT INTO usage_writers (writer, number) VALUES (?, ?)
ON CONFLICT (writer) DO UPDATE SET number = excluded.number
"""
_FIND = f"""
SELECT hour - hour % ? AS since, owner, model, endpoint, is_batch,
{", ".join(f"CAST(SUM({name}) AS BIGINT)" for name in _COUNTS)}
FROM usage WHERE hour >= ? AND hour < ?
"""
_GROUPED = " GROUP BY since, owner, model, endpoint, is_batch"


def add_usage(
    execute: Execute, writer: str, number: int, counts: Mapping[UsageKey, Counts]
) -> None:
    """See `Database.add_usage`."""
    if usage_number(execute, writer) >= number:
        return
    for key, each in counts.items():
        place = (key.hour, key.owner, key.model, key.endpoint, int(key.is_batch))
        values = (each.num_requests, each.input_tokens, each.cached_tokens)
        execute(_ADD, (*place, *values, each.output_tokens, each.reasoning_tokens))
    execute(_SET_NUMBER, (writer, number))


def usage_number(execute: Execute, writer: str) -> int:
    """See `Database.usage_number`."""
    rows = execute(_NUMBER, (writer,))
    return int(rows[0][0]) if rows else 0


def find_usage(execute: Execute, query: UsageQuery) -> dict[UsageKey, Counts]:
    """See `Database.find_usage`."""
    of_owner = "" if query.owner is None else " AND owner = ?"
    owner = () if query.owner is None else (query.owner,)
    values = (query.seconds, query.start, query.end, *owner)
    rows = execute(f"{_FIND}{of_owner}{_GROUPED}", values)
    return {
        UsageKey(hour, owner, model, endpoint, bool(is_batch)): Counts(*counts)
        for hour, owner, model, endpoint, is_batch, *counts in rows
    }
