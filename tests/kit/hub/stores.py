"""How tests open model stores of the hub on loopback."""

from collections.abc import Callable

from runtime.models.store import ModelStore

OpenStore = Callable[..., ModelStore]
