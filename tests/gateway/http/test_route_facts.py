"""Facts of a route, as the server goes by them."""

from litestar import get
from litestar.testing import create_test_client
from msgspec import Struct

from gateway.api.ops.openapi import document
from gateway.errors import ErrorReply
from gateway.http.error_handler import handle_error
from gateway.http.route_facts import facts, operations_of
from gateway.observability.request_record import RequestRecord
from runtime.errors import InvalidRequest


class Envelope(Struct):
    """The errors of some other API."""

    status: int
    reason: str

    @classmethod
    def of(cls, reply: ErrorReply) -> "Envelope":
        return cls(reply.status, reply.body.message)


@get(
    "/other",
    opt=facts(envelope=Envelope, operation="chat", errors=(401, 529)),
    sync_to_thread=False,
)
def other() -> None:
    """Some other API."""
    raise InvalidRequest("It is wrong.", param="x")


@get("/plain", sync_to_thread=False)
def plain() -> None:
    """OpenAI's."""
    raise InvalidRequest("It is wrong.", param="x")


def test_an_error_has_the_envelope_of_its_route():
    def attach(request: object) -> None:
        RequestRecord([]).attach(request.scope)  # type: ignore[attr-defined]

    with create_test_client(
        [other, plain],
        exception_handlers={InvalidRequest: handle_error},
        before_request=attach,
        openapi_config=None,
    ) as client:
        assert client.get("/other").json() == {"status": 400, "reason": "It is wrong."}
        assert client.get("/plain").json()["error"]["param"] == "x"
        described = document(client.app.routes)
    schemas = described["components"]["schemas"]
    assert set(schemas["Envelope"]["properties"]) == {"status", "reason"}
    refused = described["paths"]["/other"]["get"]["responses"]["401"]["content"]
    assert refused["application/json"]["schema"] == {"$ref": "#/components/schemas/Envelope"}


def test_operations_by_path():
    assert operations_of([other, plain]) == {"/other": "chat"}
