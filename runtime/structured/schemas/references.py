"""Where the references of a schema lead: JSON pointers, names and addresses within one document."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

NAMED = (
    *("$defs", "definitions", "properties", "patternProperties"),
    *("dependentSchemas", "dependencies"),
)
SINGLE = (
    *("items", "additionalProperties", "additionalItems", "contains", "propertyNames"),
    *("not", "if", "then", "else", "unevaluatedProperties", "unevaluatedItems"),
)
LISTED = ("anyOf", "allOf", "oneOf", "prefixItems", "items")
"""Keywords with a schema for each name, with one schema, and with a list of schemas."""

Pointer = tuple[str, ...]

_HALF_PATH = 150

_FITTED = frozenset(
    (
        *("$defs", "definitions", "properties", "patternProperties", "items", "prefixItems"),
        *("additionalProperties", "additionalItems", "anyOf", "allOf", "oneOf"),
    )
)
"""Keywords with schemas that values have to fit. A schema under another one may allow less where
the whole allows more."""


class Document:
    """The references of a schema and of everything in it. A target is given by its pointer, the
    keys that lead to it from the root."""

    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._id_keys = ("$id", "id") if _is_draft_4(root) else ("$id",)
        self._resources: dict[str, Pointer] = {"": ()}
        self._anchors: dict[tuple[str, str], Pointer] = {}
        self._bases: dict[Pointer, str] = {}
        self._index()

    def resolve(self, reference: str, pointer: Pointer) -> Pointer | None:
        """The target of a reference that stands at `pointer`. None if the document has none."""
        address, fragment = urldefrag(_joined(self._base(pointer), reference))
        resource = self._resources.get(address)
        if resource is None:
            return None
        if fragment and not fragment.startswith("/"):
            return self._anchors.get((address, unquote(fragment)))
        keys = tuple(map(_unescaped, fragment.split("/")[1:]))
        for start in dict.fromkeys((resource, ())):
            if isinstance(self.at(start + keys), dict | bool):
                return start + keys
        return None

    def leads_outside(self, reference: str, pointer: Pointer) -> bool:
        """Whether the reference names another document."""
        address, _ = urldefrag(_joined(self._base(pointer), reference))
        return address not in self._resources

    @property
    def has_one_address(self) -> bool:
        """Whether nothing within the schema has an address of its own."""
        return not any(self._resources.values())

    def at(self, pointer: Pointer) -> Any:
        """The value that a pointer leads to, None if there is none."""
        part: Any = self._root
        for key in pointer:
            if isinstance(part, dict):
                part = part.get(key)
            elif isinstance(part, list) and key.isdecimal() and int(key) < len(part):
                part = part[int(key)]
            else:
                return None
        return part

    def _base(self, pointer: Pointer) -> str:
        for length in range(len(pointer), -1, -1):
            if (base := self._bases.get(pointer[:length])) is not None:
                return base
        return ""

    def _index(self) -> None:
        """Finds all names and addresses."""
        left: list[tuple[Pointer, Any, str]] = [((), self._root, "")]
        while left:
            pointer, part, base = left.pop()
            if not isinstance(part, dict):
                continue
            base = self._note_address(pointer, part, base)
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(name := part.get(key), str):
                    self._anchors.setdefault((base, name), pointer)
            left += [((*pointer, *keys), child, base) for keys, child in children(part)]

    def _note_address(self, pointer: Pointer, part: dict[str, Any], base: str) -> str:
        for key in self._id_keys:
            address = part.get(key)
            if not isinstance(address, str):
                continue
            whole, fragment = urldefrag(_joined(base, address))
            if fragment:
                self._anchors.setdefault((whole, fragment), pointer)
            if whole != base:
                self._resources.setdefault(whole, pointer)
                self._bases[pointer] = base = whole
        return base


def children(part: dict[str, Any]) -> Iterator[tuple[Pointer, Any]]:
    """The schemas directly in a schema, with the keys that lead to them."""
    for key in NAMED:
        if isinstance(named := part.get(key), dict):
            yield from (((key, name), child) for name, child in named.items())
    for key in SINGLE:
        if isinstance(part.get(key), dict):
            yield (key,), part[key]
    for key in LISTED:
        if isinstance(listed := part.get(key), list):
            yield from (((key, str(index)), child) for index, child in enumerate(listed))


def fitted_children(part: Any) -> Iterator[tuple[Pointer, Any]]:
    """Those of the schemas directly in a schema that values have to fit."""
    if isinstance(part, dict):
        yield from ((keys, child) for keys, child in children(part) if keys[0] in _FITTED)


def path_of(pointer: Pointer) -> str:
    """A pointer as people write paths: `properties.name.anyOf[0]`. The middle of a long one is
    left out."""
    path = ""
    for before, key in zip(("", *pointer), pointer, strict=False):
        if key.isdecimal() and before in LISTED:
            path += f"[{key}]"
        else:
            path += f".{key}" if path else key
    return path if len(path) <= 2 * _HALF_PATH else f"{path[:_HALF_PATH]}…{path[-_HALF_PATH:]}"


def _is_draft_4(root: dict[str, Any]) -> bool:
    """Draft 4 has `id` for what is `$id` later; everywhere else `id` is a word like any other."""
    draft = root.get("$schema")
    return isinstance(draft, str) and any(old in draft for old in ("draft-03", "draft-04"))


def _joined(base: str, reference: str) -> str:
    """A reference against a base. `urljoin` knows few schemes: `urn:` is not among them."""
    if reference.startswith("#"):
        return urldefrag(base)[0] + reference
    try:
        return urljoin(base, reference)
    except ValueError:
        return reference


def _unescaped(key: str) -> str:
    return unquote(key).replace("~1", "/").replace("~0", "~")
