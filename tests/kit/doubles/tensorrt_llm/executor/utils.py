"""The classes of errors, where the package keeps them."""


class RequestError(RuntimeError):
    """One request failed; the others go on."""


class EngineDeadError(RuntimeError):
    """The engine is gone: no error of a request. Only releases that watch their worker have it."""
