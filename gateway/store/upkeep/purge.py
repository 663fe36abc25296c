"""Deletes much at once, without holding up those who store something meanwhile."""

import time
from collections.abc import Iterator, Sequence

from msgspec import structs

from gateway.store.upkeep.kinds import ObjectKind, delete_whole, objects_of, whole_of
from gateway.store.upkeep.maintained import Maintained, Which

STEP_SECONDS = 0.01
"""How long a step holds up others."""

_AT_ONCE = 500


def with_parts(which: Which) -> Which:
    """The same with all that belongs to objects of these kinds."""
    kinds = [each for kind in which.kinds for each in objects_of(kind).all_kinds]
    return structs.replace(which, kinds=tuple(dict.fromkeys(kinds)))


def purge(database: Maintained, which: Which) -> Iterator[int]:
    """Deletes these objects with all that belongs to them. Yields how many records were deleted,
    after each step."""
    for objects in _in_order(database, which):
        of_kind = structs.replace(which, kinds=(objects.kind,))
        while num_deleted := _step(database, objects, of_kind):
            yield num_deleted


def _in_order(database: Maintained, which: Which) -> Sequence[ObjectKind]:
    """What is to be deleted, whole objects first. What is left of parts then has lost its object;
    its age says nothing."""
    found = dict.fromkeys(share.kind for share in database.shares(with_parts(which)))
    whole = [objects_of(kind) for kind in found if whole_of(kind) is None]
    parts = [ObjectKind(kind) for kind in found if whole_of(kind) is not None]
    return whole if which.before is not None else [*whole, *parts]


def _step(database: Maintained, objects: ObjectKind, which: Which) -> int:
    end, num_deleted = time.monotonic() + STEP_SECONDS, 0
    found = database.oldest(which, _AT_ONCE)
    with database.transaction():
        for each in found:
            num_deleted += delete_whole(database, objects, each.id)
            if time.monotonic() >= end:
                break
    return num_deleted
