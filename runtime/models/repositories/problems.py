"""What the answers of the hub mean that are no success, in words that say what to do."""

from collections.abc import Mapping

from runtime.errors import ModelNotFound, PullError, SetupError

TOKEN_VARIABLE = "HF_TOKEN"
_OVERLOADED = (429, 500, 502, 503, 504)


class Asked(PullError):
    """The hub asks to come again, in `seconds`; None if it does not say when."""

    def __init__(self, message: str, seconds: float | None) -> None:
        super().__init__(message)
        self.seconds = seconds


def problem(
    status: int, headers: Mapping[str, str], repository: str, endpoint: str, *, has_token: bool
) -> SetupError:
    """The error for an answer. `headers` are looked up in small letters; `repository` is "" for
    requests that are about none."""
    if status in _OVERLOADED:
        return _overloaded(status, headers, endpoint)
    code = headers.get("x-error-code", "")
    said = headers.get("x-error-message", "").strip()
    if code == "GatedRepo":
        return _gated(repository, endpoint, has_token)
    if code == "RevisionNotFound":
        return ModelNotFound(f"{repository} has no such branch, tag or commit")
    if code == "EntryNotFound":
        return PullError(f"the file is no longer in {repository}")
    if status == 401 and has_token and code != "RepoNotFound":
        return PullError(f"{endpoint} refuses the token: {said or 'it is not valid'}. {_change()}")
    if status in (401, 404) and repository:
        return _unknown(repository, endpoint, has_token)
    detail = f" ({said})" if said else ""
    return PullError(f"{endpoint} answered {status}{detail}")


def _overloaded(status: int, headers: Mapping[str, str], endpoint: str) -> Asked:
    text = headers.get("retry-after", "").strip()
    seconds = float(text) if text.isascii() and text.isdigit() else None
    when = f"; it asks to come again in {text} seconds" if seconds is not None else ""
    what = "is asked too often" if status == 429 else "does not work at the moment"
    return Asked(f"{endpoint} {what} ({status}){when}", seconds)


def _gated(repository: str, endpoint: str, has_token: bool) -> PullError:
    token = (
        "The token that is used belongs to an account that has not been let in"
        if has_token
        else f"Then set {TOKEN_VARIABLE} to a token of that account"
    )
    return PullError(
        f"{repository} is gated: accept its licence at {endpoint}/{repository}. {token}"
    )


def _unknown(repository: str, endpoint: str, has_token: bool) -> ModelNotFound:
    private = (
        "the token that is used does not open it"
        if has_token
        else f"it is private: then set {TOKEN_VARIABLE} to a token that opens it"
    )
    return ModelNotFound(f"{endpoint} has no repository {repository}, or {private}")


def _change() -> str:
    return f"Set {TOKEN_VARIABLE} to another one, or unset it for what everybody may read"
