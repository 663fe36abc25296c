"""Usage in the words of SQL that all databases here share."""

from collections.abc import Callable, Mapping
from typing import Any

from gateway.store.usage import Counts, UsageKey, UsageQuery

Execute = Callable[[str, Any], list[Any]]
"""Runs a statement with its values, and returns the rows."""

_KEY = ("hour", "owner", "model", "endpoint", "is_batch")
_COUNTS = ("num_requests", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens")


class UsageSQL:
    """The part of a `Database` that has to do with usage. A statement has `mark` for each of its
    parameters. The names of the tables begin with `prefix`."""

    def __init__(self, execute: Execute, mark: str, prefix: str = "") -> None:
        self._execute = execute
        usage, writers = f"{prefix}usage", f"{prefix}usage_writers"
        names, marks = (*_KEY, *_COUNTS), [mark] * (len(_KEY) + len(_COUNTS))
        sums = (f"{name} = {usage}.{name} + excluded.{name}" for name in _COUNTS)
        self._add = (
            f"INSERT INTO {usage} ({', '.join(names)}) VALUES ({', '.join(marks)})"
            f" ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {', '.join(sums)}"
        )
        self._number = f"SELECT number FROM {writers} WHERE writer = {mark}"
        self._set_number = (
            f"INSERT INTO {writers} (writer, number) VALUES ({mark}, {mark})"
            " ON CONFLICT (writer) DO UPDATE SET number = excluded.number"
        )
        totals = (f"CAST(SUM({name}) AS BIGINT)" for name in _COUNTS)
        self._find = (
            f"SELECT hour / {mark} * {mark} AS since, owner, model, endpoint, is_batch,"
            f" {', '.join(totals)} FROM {usage} WHERE hour >= {mark} AND hour < {mark}"
        )
        self._of_owner = f" AND owner = {mark}"

    def add_usage(self, writer: str, number: int, counts: Mapping[UsageKey, Counts]) -> None:
        """See `Database`."""
        if self.usage_number(writer) >= number:
            return
        for key in sorted(counts):  # two writers must not wait for each other's rows
            each = counts[key]
            place = (key.hour, key.owner, key.model, key.endpoint, int(key.is_batch))
            values = (each.num_requests, each.input_tokens, each.cached_tokens)
            self._execute(self._add, (*place, *values, each.output_tokens, each.reasoning_tokens))
        self._execute(self._set_number, (writer, number))

    def usage_number(self, writer: str) -> int:
        """See `Database`."""
        rows = self._execute(self._number, (writer,))
        return int(rows[0][0]) if rows else 0

    def find_usage(self, query: UsageQuery) -> dict[UsageKey, Counts]:
        """See `Database`."""
        of_owner = "" if query.owner is None else self._of_owner
        owner = () if query.owner is None else (query.owner,)
        rows = self._execute(
            f"{self._find}{of_owner} GROUP BY since, owner, model, endpoint, is_batch",
            (query.seconds, query.seconds, query.start, query.end, *owner),
        )
        return {
            UsageKey(hour, owner, model, endpoint, bool(is_batch)): Counts(*counts)
            for hour, owner, model, endpoint, is_batch, *counts in rows
        }
