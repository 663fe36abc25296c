"""Time in buckets, and sums by bucket and group. Pure."""

from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from gateway.api.openai.usage.params import wrong
from gateway.api.openai.usage.protocol import DEFAULT_LIMITS, UsageParams, Width
from gateway.store.usage import Counts, UsageKey, UsageQuery
from gateway.usage.ledger import Sums
from gateway.usage.periods import DAY, HOUR, hour_of

SECONDS: Mapping[Width, int] = {"1h": HOUR, "1d": DAY}

Group = tuple[tuple[str, str | bool], ...]
"""The fields that a result is grouped by, with their values."""

BucketSums = list[tuple[Group, Counts]]


class Spans(Struct, frozen=True):
    """The buckets of one page, whole hours from `edges[0]` to `edges[-1]`: each begins where the
    one before ends. `seconds` is the length of those that are not cut. `next_page` is the cursor of
    the page that follows, if one does."""

    edges: Sequence[int]
    seconds: int
    next_page: str | None

    def query(self, owner: str | None) -> UsageQuery:
        """The sums of all buckets."""
        return UsageQuery(self.edges[0], self.edges[-1], owner, self.seconds)


def spans_of(params: UsageParams, now: float) -> Spans:
    """The buckets that are asked for. Raises InvalidRequest for times and cursors that do not go
    together."""
    seconds = SECONDS[params.bucket_width]
    start = hour_of(params.start_time)
    wanted_end = now if params.end_time is None else params.end_time
    end = -(-int(wanted_end) // HOUR) * HOUR
    if params.end_time is None:
        end = max(end, start + HOUR)
    elif params.end_time <= params.start_time:
        raise wrong("end_time", "it is exclusive, and has to be after `start_time`")
    edges = [_first_edge(params.page, start, end, seconds)]
    for _ in range(params.limit or DEFAULT_LIMITS[params.bucket_width]):
        if edges[-1] < end:
            edges.append(min((edges[-1] // seconds + 1) * seconds, end))
    return Spans(edges, seconds, f"page_{edges[-1]}" if edges[-1] < end else None)


def _first_edge(page: str | None, start: int, end: int, seconds: int) -> int:
    if page is None:
        return start
    edge = int(page.removeprefix("page_"))
    if not start < edge < end or edge % seconds:
        raise wrong(
            "page", "it is not the `next_page` of an answer to a request with these parameters"
        )
    return edge


def bucket_sums(
    sums: Sums, spans: Spans, group_by: Collection[str], keys: Collection[UsageKey]
) -> list[BucketSums]:
    """The sums of these keys in each bucket, by group."""
    places = {edge - edge % spans.seconds: n for n, edge in enumerate(spans.edges[:-1])}
    buckets: list[dict[Group, Counts]] = [{} for _ in places]
    for key in keys:
        bucket = buckets[places[key.hour]]
        group = _group(key, group_by)
        bucket[group] = bucket.get(group, Counts()) + sums[key]
    return [sorted(bucket.items(), key=lambda item: item[0]) for bucket in buckets]


def _group(key: UsageKey, group_by: Collection[str]) -> Group:
    values: dict[str, str | bool] = {
        "api_key_id": key.owner,
        "model": key.model,
        "batch": key.is_batch,
        "endpoint": key.endpoint,
    }
    return tuple((name, value) for name, value in values.items() if name in group_by)
