"""GET /version."""

from litestar import get
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.generation.writer import encode
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from runtime.version import __version__


class Version(Struct, frozen=True):
    """The answer of GET /version."""

    version: str


@get("/version", sync_to_thread=False, opt=facts(answer=Version))
def version() -> ASGIApp:
    """The version of this server."""
    return JSONBytes(encode(Version(__version__)))
