"""Where the hub is, and where its tools keep what they download, as the environment says."""

import os
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

DEFAULT_ENDPOINT = "https://huggingface.co"
_YES = ("1", "true", "yes", "on")


class HubPlace(Struct, frozen=True, kw_only=True):
    """The URL of the hub or of a mirror, the folder of the cache, and whether nothing may be asked
    of the network."""

    endpoint: str
    cache: Path
    is_offline: bool


def find_place(environ: Mapping[str, str] = os.environ, *, is_offline: bool = False) -> HubPlace:
    """The place by the variables that the hub's own library reads: HF_ENDPOINT, HF_HUB_CACHE,
    HF_HOME, HF_HUB_OFFLINE."""
    switches = (environ.get("HF_HUB_OFFLINE", ""), environ.get("TRANSFORMERS_OFFLINE", ""))
    return HubPlace(
        endpoint=(environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/"),
        cache=_cache(environ),
        is_offline=is_offline or any(switch.lower() in _YES for switch in switches),
    )


def _cache(environ: Mapping[str, str]) -> Path:
    named = environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return _folder(named)
    if home := environ.get("HF_HOME"):
        return _folder(home) / "hub"
    base = environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _folder(base) / "huggingface" / "hub"


def _folder(text: str) -> Path:
    return Path(os.path.expandvars(text)).expanduser()
