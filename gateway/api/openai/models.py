"""GET /v1/models and /v1/models/{name}."""

from collections.abc import Collection

from litestar import get
from litestar.types import ASGIApp
from msgspec import UNSET

from gateway.api.openai.protocol.models import Model, ModelList
from gateway.generation.writer import encode
from gateway.http.context import AnyRequest, Context, CurrentContext, base_name
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from runtime.messages.engine import Capability, EngineLimits


@get("/v1/models", sync_to_thread=False, opt=facts(answer=ModelList))
def list_models(context: CurrentContext) -> ASGIApp:
    """The models that are served."""
    names = context.models.names
    return JSONBytes(encode(ModelList(data=[_describe(context, name) for name in names])))


@get("/v1/models/{model_id:path}", sync_to_thread=False, opt=facts(answer=Model, errors=(404,)))
def retrieve_model(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """One model. Names may contain slashes."""
    model_id = str(request.path_params["model_id"]).removeprefix("/")
    return JSONBytes(encode(_describe(context, model_id)))


def _describe(context: Context, name: str) -> Model:
    model = context.models.get(name)
    limits = model.engine.limits
    return Model(
        id=name,
        created=model.created,
        root=base_name(context, name),
        parent=context.models.base_of(model.name),
        max_model_len=UNSET if limits is None else limits.max_model_len,
        state=context.manager.report(base_name(context, name)).state,
        capabilities=UNSET if limits is None else _capabilities(limits, model.engine.capabilities),
    )


def _capabilities(limits: EngineLimits, others: Collection[Capability]) -> list[str]:
    generates = ["completion"] if limits.can_generate else []
    embeds = ["embeddings"] if limits.max_embedding_len else []
    return [*generates, *embeds, *sorted(others)]
