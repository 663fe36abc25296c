"""Keys for tests: a file of them, and their plain form."""

import hashlib
from pathlib import Path
from typing import Any

from gateway.admission.keys import new_key


def write_keys(file: Path, **entries: dict[str, Any]) -> dict[str, str]:
    """Writes a file of new keys with these fields. Returns each name's key."""
    keys = {name: new_key() for name in entries}
    lines = []
    for name, fields in entries.items():
        digest = hashlib.sha256(keys[name].encode()).hexdigest()
        lines += [f"[keys.{name}]", f'sha256 = "{digest}"']
        lines += [f"{field} = {value!r}" for field, value in fields.items()]
    file.write_text("\n".join(lines), encoding="utf-8")
    return keys


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}
