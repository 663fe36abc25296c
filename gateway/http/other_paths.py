"""Paths that clients use and that are not those of the routes.

Some clients leave out `/v1`, others write it twice, and others know the paths of another server.
"""

import difflib
import re
from collections.abc import Iterable, Mapping

from litestar.handlers import HTTPRouteHandler

PREFIX = "/v1"

ELSEWHERE: Mapping[str, str] = {
    "/api/chat": "/v1/chat/completions",
    "/api/generate": "/v1/completions",
    "/api/tags": "/v1/models",
    "/api/ps": "/v1/models",
    "/api/show": "/v1/models",
    "/api/embed": "/v1/embeddings",
    "/api/embeddings": "/v1/embeddings",
    "/api/version": "/version",
    "/chat": "/v1/chat/completions",
    "/completion": "/v1/completions",
    "/embedding": "/v1/embeddings",
    "/reranking": "/v1/rerank",
    "/v1/reranking": "/v1/rerank",
    "/v1/scores": "/v1/score",
    "/slots": "/health",
    "/healthz": "/health/live",
    "/livez": "/health/live",
    "/readyz": "/health/ready",
    "/docs": "/openapi.json",
}
"""Paths of Ollama, llama-server and others, and what is here instead."""

ACTIONS = frozenset({"/v1/models/load", "/v1/models/unload"})
"""Paths that a route with a parameter would take for the id of something, and that are actions of
other servers."""

_MIN_LIKENESS = 0.85
_MAX_LENGTH = 1000
"""Characters of the longest path that may be a mistake. Each of its ends is looked at."""
_PARAMETER = re.compile(r"\\\{\w+:(\w+)\\\}")


class OtherPaths:
    """What is meant by a path that no route has."""

    def __init__(self, handlers: Iterable[HTTPRouteHandler]) -> None:
        self._paths = sorted({path for handler in handlers for path in handler.paths})
        patterns = (_pattern(path) for path in self._paths)
        self._known = re.compile("|".join(patterns))

    def alias_of(self, path: str) -> str | None:
        """The path of the route that this is an alias of: the same path without `/v1`."""
        if path.startswith(f"{PREFIX}/") or self._known.fullmatch(path):
            return None
        return full if self._known.fullmatch(full := PREFIX + path) else None

    def meant(self, path: str) -> str | None:
        """The path of the route that the client probably wants; None if that is not clear."""
        path = path.rstrip("/")
        if len(path) > _MAX_LENGTH:
            return None
        if path in ELSEWHERE:
            return ELSEWHERE[path]
        return self._end_of(path) or self._like(path)

    def _end_of(self, path: str) -> str | None:
        """The longest end of the path that is a route, with `/v1` or without."""
        for start in (place.start() for place in re.finditer("/", path)):
            end = path[start:]
            if self._known.fullmatch(end):
                return end
            if alias := self.alias_of(end):
                return alias
        return None

    def _like(self, path: str) -> str | None:
        found = difflib.get_close_matches(path[:100], self._paths, 1, _MIN_LIKENESS)
        return found[0] if found else None


def _pattern(path: str) -> str:
    def one_or_more(parameter: re.Match[str]) -> str:
        return ".+" if parameter[1] == "path" else "[^/]+"

    return _PARAMETER.sub(one_or_more, re.escape(path))
