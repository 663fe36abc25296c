"""Items of an input without those that a compaction item stands for. Pure."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from gateway.api.openai.responses.compaction.content import Summary, read
from gateway.api.openai.responses.protocol import InputCompaction, InputItem, InputMessage


class Placed(Struct, frozen=True):
    """An item, or the summary of one, and its place in the request."""

    where: str
    item: InputItem | Summary


def replayed(items: Sequence[Placed]) -> list[Placed]:
    """The items that are to be read. The last compaction item holds for all before it. Raises
    InvalidRequest for one that cannot be read."""
    last = next((i for i in range(len(items) - 1, -1, -1) if _is_compaction(items[i])), None)
    if last is None:
        return list(items)
    summary = _summary(items[last])
    before = [each for each in items[:last] if not _is_compaction(each)]
    start = max(len(before) - summary.num_kept, 0)
    stands = [Placed(items[last].where, summary)]
    return [*_of_system(before[:start]), *stands, *before[start:], *items[last + 1 :]]


def _summary(placed: Placed) -> Summary:
    assert isinstance(placed.item, InputCompaction), "looked at before"
    return read(placed.item.encrypted_content, f"{placed.where}.encrypted_content")


def _is_compaction(placed: Placed) -> bool:
    return isinstance(placed.item, InputCompaction)


def _of_system(items: Sequence[Placed]) -> Iterator[Placed]:
    for placed in items:
        if isinstance(placed.item, InputMessage) and placed.item.role in ("system", "developer"):
            yield placed
