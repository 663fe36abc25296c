"""`RequestError`, where the package keeps it."""


class RequestError(RuntimeError):
    """One request failed; the others go on."""
