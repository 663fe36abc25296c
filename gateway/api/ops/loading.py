"""/admin/models: loads and unloads models."""

from collections.abc import Awaitable, Callable

from litestar import get, post
from litestar.exceptions import NotFoundException
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.admission.middleware import ADMIN
from gateway.errors import ServerDraining
from gateway.generation.writer import encode
from gateway.http.body import read_optional_json
from gateway.http.context import AnyRequest, Context, CurrentContext, base_name
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from gateway.models.manager.slot import ModelReport


class UnloadRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """With `force` the requests that hold the model fail, otherwise they are done first."""

    force: bool = False


class LoadedModels(Struct, frozen=True):
    """Every model as it is now."""

    models: list[ModelReport]


_CHANGE_FACTS = facts(
    answer=ModelReport,
    done=202,
    errors=(400, 404, 503),
    shown_paths=("/admin/models/{model_id}/load", "/admin/models/{model_id}/unload"),
)


@get("/admin/models", opt={ADMIN: True, **facts(answer=LoadedModels)})
async def model_reports(context: CurrentContext) -> ASGIApp:
    """Which models are loaded, what they need, and who uses them."""
    await context.manager.measure()
    return JSONBytes(encode(LoadedModels(list(context.manager.states().values()))))


@post(
    "/admin/models/{action:path}",
    status_code=202,
    opt={ADMIN: True, **_CHANGE_FACTS},
)
async def change_model(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Load or unload a model: the path ends with the model's name, which may contain slashes, and
    `/load` or `/unload`. Both begin at once, and `/health` shows their progress. An unloaded model
    comes back with the next request for it, unless its settings say `load = "never"`. A server that
    is about to end loads none: 503."""
    path = str(request.path_params["action"]).removeprefix("/")
    name, _, action = path.rpartition("/")
    if not name or action not in _ACTIONS:
        raise NotFoundException
    model = base_name(context, name)
    await _ACTIONS[action](request, context, model)
    return JSONBytes(encode(context.manager.report(model)), 202)


async def _load(request: AnyRequest, context: Context, name: str) -> None:
    if context.drain.exits:
        raise ServerDraining(context.drain.retry_after)
    context.manager.load(name)


async def _unload(request: AnyRequest, context: Context, name: str) -> None:
    data = await read_optional_json(request, UnloadRequest)
    context.manager.unload(name, force=data.force)


_ACTIONS: dict[str, Callable[[AnyRequest, Context, str], Awaitable[None]]] = {
    "load": _load,
    "unload": _unload,
}
