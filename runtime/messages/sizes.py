"""How much one request may keep an engine busy with beside its tokens."""

from runtime.errors import InvalidRequest
from runtime.messages.request import Request

MAX_STOP_STRINGS = 64
MAX_STOP_CHARS = 4_096
"""Most stop strings of a request, and most characters in one."""

MAX_STOP_TOKEN_IDS = 1_024


def check_sizes(request: Request) -> None:
    """Raises InvalidRequest, which names the parameter, for a request with longer lists or texts
    than an engine takes."""
    sampling = request.sampling
    _check(len(sampling.stop), MAX_STOP_STRINGS, "stop", "strings")
    longest = max(map(len, sampling.stop), default=0)
    _check(longest, MAX_STOP_CHARS, "stop", "characters in one string")
    _check(len(sampling.stop_token_ids), MAX_STOP_TOKEN_IDS, "stop_token_ids", "token ids")


def _check(number: int, most: int, param: str, what: str) -> None:
    if number > most:
        raise InvalidRequest(
            f"`{param}` has {number:,} {what}; at most {most:,} are possible.", param=param
        )
