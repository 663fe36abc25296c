"""OPTIONS of paths that several handlers share.

Litestar answers OPTIONS by itself, but only with the methods of the first handler that it registers
on a path.
"""

from collections import defaultdict
from collections.abc import Iterable

from litestar import Response
from litestar.handlers import HTTPRouteHandler


def options_of_shared_paths(handlers: Iterable[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """An OPTIONS handler for each path that more than one of `handlers` takes; it lists the methods
    of all of them. Register it before them, or Litestar adds its own first."""
    on_path: defaultdict[str, list[HTTPRouteHandler]] = defaultdict(list)
    for handler in handlers:
        for path in handler.paths:
            on_path[path].append(handler)
    return [
        _options(path, {method for handler in sharing for method in handler.http_methods})
        for path, sharing in on_path.items()
        if len(sharing) > 1
    ]


def _options(path: str, methods: Iterable[str]) -> HTTPRouteHandler:
    allow = ", ".join(sorted({*methods, "OPTIONS"}))

    def tell_methods() -> Response[None]:
        """What the path takes."""
        return Response(None, status_code=204, headers={"allow": allow}, media_type="text/plain")

    return HTTPRouteHandler(path, http_method="OPTIONS", sync_to_thread=False)(tell_methods)
