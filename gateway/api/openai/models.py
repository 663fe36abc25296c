"""GET /v1/models and /v1/models/{name}."""

from litestar import get
from litestar.types import ASGIApp
from msgspec import UNSET

from gateway.api.openai.protocol.models import Model, ModelList
from gateway.generation.writer import encode
from gateway.http.context import AnyRequest, CurrentContext
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from gateway.models.registry import ModelRegistry


@get("/v1/models", sync_to_thread=False, opt=facts(answer=ModelList))
def list_models(context: CurrentContext) -> ASGIApp:
    """The models that are served."""
    models = context.models
    return JSONBytes(encode(ModelList(data=[_describe(models, name) for name in models.names])))


@get("/v1/models/{model_id:path}", sync_to_thread=False, opt=facts(answer=Model, errors=(404,)))
def retrieve_model(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """One model. Names may contain slashes."""
    model_id = str(request.path_params["model_id"]).removeprefix("/")
    return JSONBytes(encode(_describe(context.models, model_id)))


def _describe(models: ModelRegistry, name: str) -> Model:
    model = models.get(name)
    limits = model.engine.limits
    return Model(
        id=name,
        created=model.created,
        root=models.base_of(model.name) or model.name,
        parent=models.base_of(model.name),
        max_model_len=UNSET if limits is None else limits.max_model_len,
    )
