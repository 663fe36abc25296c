"""Label values of which there are never too many."""

OTHER = "other"


class BoundedNames:
    """The first `limit` different names stay as they are; all later ones become "other".

    Every value of a label is a time series that Prometheus keeps: what clients can make up must not
    become one without a limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def name(self, name: str) -> str:
        """The name, or "other"."""
        if name in self._names:
            return name
        if len(self._names) >= self._limit:
            return OTHER
        self._names.add(name)
        return name
