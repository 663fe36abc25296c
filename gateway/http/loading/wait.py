"""The wait of a request until its model is loaded."""

import math

from gateway.http.body import while_connected
from gateway.http.context import AnyRequest
from gateway.http.loading.leases import lease_of
from gateway.observability.request_record import RequestRecord


def is_loaded(request: AnyRequest) -> bool:
    """Whether the request need not wait for its model."""
    lease = lease_of(request.scope)
    return lease is None or lease.is_loaded


async def until_loaded(request: AnyRequest, deadline: float = math.inf) -> None:
    """Returns when the request's model is loaded. Raises what `Lease.loaded` raises, at the latest
    at `deadline` (monotonic) or the request's own; and ClientException, which nobody sees, if the
    client leaves."""
    lease = lease_of(request.scope)
    if lease is not None and not lease.is_loaded:
        deadline = min(deadline, RequestRecord.of(request.scope).deadline)
        await while_connected(request, lease.loaded(deadline))
