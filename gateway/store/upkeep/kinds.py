"""Which records make up one object, and which objects age."""

from msgspec import Struct

from gateway.store.database import Database


class ObjectKind(Struct, frozen=True):
    """Objects whose own record is of `kind`. With one go the records of the kinds `parts` that have
    its id, and those of the kinds `children` whose parent it is. What does not age stays until
    somebody deletes it."""

    kind: str
    parts: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    ages: bool = True

    @property
    def all_kinds(self) -> tuple[str, ...]:
        """Of all records of such an object."""
        return (self.kind, *self.parts, *self.children)


OBJECTS = (
    ObjectKind(
        "response",
        parts=("response.input", "response.claim", "response.request", "response.events"),
    ),
    ObjectKind("chat.completion", parts=("chat.completion.labels",)),
    ObjectKind("conversation", children=("conversation.item",), ages=False),
)
"""All kinds that consist of several records, and all that age."""

AGEING = tuple(each for each in OBJECTS if each.ages)


def objects_of(kind: str) -> ObjectKind:
    """The objects of this kind. What is not known consists of one record and does not age."""
    return next((each for each in OBJECTS if each.kind == kind), ObjectKind(kind, ages=False))


def whole_of(kind: str) -> str | None:
    """The kind of the objects that records of this kind are a part of; None if they are whole."""
    return next((each.kind for each in OBJECTS if kind in each.all_kinds[1:]), None)


def delete_whole(database: Database, objects: ObjectKind, id: str) -> int:
    """Deletes an object with all that belongs to it. Returns how many records that were."""
    same_id = [database.delete(kind, id, None) for kind in (objects.kind, *objects.parts)]
    return sum(same_id) + sum(database.delete_children(kind, id) for kind in objects.children)
