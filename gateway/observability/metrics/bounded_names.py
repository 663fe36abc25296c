"""Label values with a bounded number of different names."""

OTHER = "other"


class BoundedNames:
    """The first `limit` different names stay as they are; all later names become "other". A lower
    limit takes no name away that is counted already.

    Prometheus keeps one time series for each value of a label, so names that clients can make up
    need a limit.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._names: set[str] = set()

    def name(self, name: str) -> str:
        """The name, or "other"."""
        if name in self._names:
            return name
        if len(self._names) >= self.limit:
            return OTHER
        self._names.add(name)
        return name
