"""Why a grammar was refused, in words for the user."""

_MAX_REASON = 500


def one_line(reason: str) -> str:
    """An error message of llguidance on one line, cut to `_MAX_REASON` characters."""
    line = " ".join(reason.replace("<non-verbose/>", "").split())
    return line if len(line) <= _MAX_REASON else f"{line[:_MAX_REASON]}…"
