"""API keys: the permissions of a key, the sources of keys, and the key of a request.

Only the SHA-256 of a key is kept. A slow hash protects passwords, which can be guessed; a key of
256 random bits cannot, and a slow hash would cost every request a tenth of a second.
"""

import hashlib
import hmac
import secrets
import tomllib
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gateway.generation.scheduling import (
    PriorityClass,
)
from gateway.settings.mistakes import toml_reason
from gateway.settings.schema import AuthSettings
from gateway.usage.budgets import Budget
from runtime.errors import SetupError

KEY_VARIABLE = "LOCKGATE_API_KEY"
ADMIN_KEY_VARIABLE = "LOCKGATE_ADMIN_API_KEY"

MIN_KEY_LENGTH = 16
"""Characters of a key from the environment: shorter ones can be guessed."""

Role = Literal["user", "admin"]
KeyName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
_Limit = Annotated[int, Meta(ge=1)]
_Cost = Annotated[float, Meta(gt=0)]


class KeyEntry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key of the file. None means no limit.

    `tokens_per_minute` counts prompts and answers, as `tokens_per_day` and `tokens_per_month` do;
    `cost_per_day` and `cost_per_month` are in the currency of the prices. `priority` is the default
    class of the key's requests, and also the best class that they can have. `models` are the names
    that the key may use. From `expires` on it is no longer valid.
    """

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    role: Role = "user"
    priority: PriorityClass | None = None
    requests_per_minute: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    tokens_per_day: _Limit | None = None
    tokens_per_month: _Limit | None = None
    cost_per_day: _Cost | None = None
    cost_per_month: _Cost | None = None
    max_concurrent_requests: _Limit | None = None
    models: list[str] | None = None
    expires: Annotated[datetime, Meta(tz=True)] | None = None

    @property
    def budgets(self) -> list[Budget]:
        """What the key may use in a day and in a month."""
        limits = (
            Budget("tokens", "day", self.tokens_per_day or 0),
            Budget("tokens", "month", self.tokens_per_month or 0),
            Budget("cost", "day", self.cost_per_day or 0),
            Budget("cost", "month", self.cost_per_month or 0),
        )
        return [budget for budget in limits if budget.limit]


class KeysFile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file: `[keys.NAME]` tables."""

    keys: dict[KeyName, KeyEntry] = {}


class Principal(Struct, frozen=True, kw_only=True):
    """The sender of a request: the key's name and permissions."""

    name: str
    entry: KeyEntry

    @property
    def is_admin(self) -> bool:
        return self.entry.role == "admin"

    def has_expired(self, now: datetime) -> bool:
        """Whether the key is no longer valid at this time."""
        return self.entry.expires is not None and now >= self.entry.expires


class KeyRing:
    """All keys that are valid now: those of the file, which `replace` exchanges, and `extra` ones
    that stay."""

    def __init__(self, file: Path | None = None, extra: Iterable[Principal] = ()) -> None:
        self._extra = tuple(extra)
        self._pepper = secrets.token_bytes(32)
        self.is_required = file is not None or bool(self._extra)
        """Whether requests need a key. Does not change while the server runs."""
        self.replace(read_keys_file(file) if file else {})

    def replace(self, entries: Mapping[str, KeyEntry]) -> None:
        """From now on the keys of the file are these, by name."""
        self.entries = entries
        principals = [*self._extra, *(Principal(name=n, entry=e) for n, e in entries.items())]
        self._table = {self._place(bytes.fromhex(p.entry.sha256)): p for p in principals}
        self._by_name = {principal.name: principal for principal in principals}

    def find(self, key: bytes) -> Principal | None:
        """The principal of a key.

        A wrong key, a right key and a nearly right key take equally long: the table is looked up
        under a keyed hash that is different in every run, and the entry found is compared in
        constant time.
        """
        digest = hashlib.sha256(key).digest()
        found = self._table.get(self._place(digest))
        expected = bytes.fromhex(found.entry.sha256) if found else bytes(32)
        return found if hmac.compare_digest(digest, expected) else None

    def named(self, name: str) -> Principal | None:
        """The principal of this name."""
        return self._by_name.get(name)

    def _place(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._pepper, digest_size=32).digest()


def open_key_ring(settings: AuthSettings, environ: MutableMapping[str, str]) -> KeyRing:
    """The keys of the settings and of the environment. The keys are removed from the environment,
    so that no process started later inherits them. Raises SetupError."""
    extra = [
        _from_environment(variable, role, environ.pop(variable))
        for variable, role in _VARIABLES.items()
        if environ.get(variable)
    ]
    return KeyRing(keys_path(settings), extra)


def keys_path(settings: AuthSettings) -> Path | None:
    """The file of the keys; None if the settings name none."""
    return Path(settings.keys_file).expanduser() if settings.keys_file else None


_VARIABLES: Mapping[str, Role] = {KEY_VARIABLE: "user", ADMIN_KEY_VARIABLE: "admin"}


def _from_environment(variable: str, role: Role, key: str) -> Principal:
    key = key.strip()  # as clients' keys are read; files of variables often have a blank at the end
    try:
        key.encode()
    except UnicodeEncodeError as error:
        raise SetupError(f"{variable} is not valid UTF-8") from error
    if len(key) < MIN_KEY_LENGTH:
        raise SetupError(
            f"{variable} has fewer than {MIN_KEY_LENGTH} characters and could be guessed;"
            " make one with: lockgate keys new"
        )
    entry = KeyEntry(sha256=hashlib.sha256(key.encode()).hexdigest(), role=role)
    return Principal(name=variable, entry=entry)


def read_keys_file(file: Path) -> dict[str, KeyEntry]:
    """The keys by name. Raises SetupError, which names the key and never shows a hash."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = error.strerror or error
        raise SetupError(f"auth.keys_file: {file} cannot be read: {reason}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SetupError(
            f"auth.keys_file: {file} is not valid TOML: {toml_reason(error)}"
        ) from error
    try:
        keys = msgspec.convert(document, KeysFile).keys
    except msgspec.ValidationError as error:
        raise SetupError(f"auth.keys_file: {file}: {_explained(document, error)}") from error
    if twice := _twice([entry.sha256 for entry in keys.values()]):
        names = [name for name, entry in keys.items() if entry.sha256 == twice]
        raise SetupError(f"auth.keys_file: {file}: {' and '.join(names)} are the same key")
    return dict(keys)


def _explained(document: Mapping[str, object], error: msgspec.ValidationError) -> str:
    """Adds the table's entry to the error, because msgspec does not report it."""
    table = document.get("keys")
    for name, entry in table.items() if isinstance(table, dict) else ():
        try:
            msgspec.convert({"keys": {name: entry}}, KeysFile)
        except msgspec.ValidationError as own:
            return f"keys.{name}: {own}"
    return str(error)


def _twice(hashes: list[str]) -> str | None:
    return next((item for number, item in enumerate(hashes) if item in hashes[:number]), None)


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key in `Authorization: Bearer` or `x-api-key`; None without either."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.strip().partition(b" ")
            if scheme.lower() == b"bearer" and token.strip():
                return token.strip()
        elif name == b"x-api-key" and value.strip():
            return value.strip()
    return None


def new_key() -> str:
    """256 random bits, with a prefix that secret scanners and OpenAI clients know."""
    return f"sk-lockgate-{secrets.token_urlsafe(32)}"
