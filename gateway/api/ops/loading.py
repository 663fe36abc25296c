"""/admin/models: loads, unloads and pulls models."""

from collections.abc import Awaitable, Callable

from litestar import get, post
from litestar.exceptions import NotFoundException
from litestar.types import ASGIApp
from msgspec import Struct

from gateway.admission.middleware import ADMIN
from gateway.api.ops.pulling import PullEvent, pull_answer
from gateway.errors import ServerDraining
from gateway.generation.writer import encode
from gateway.http.body import read_optional_json
from gateway.http.context import AnyRequest, Context, CurrentContext, base_name
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import facts
from gateway.models.manager.slot import ModelReport


class LoadRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Has no fields."""


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
    event=PullEvent,
    shown_paths=tuple(f"/admin/models/{{model_id}}/{each}" for each in ("load", "unload", "pull")),
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
    """Load, unload or pull a model: the path ends with the model's name, which may contain slashes,
    and `/load`, `/unload` or `/pull`. The first two begin at once, and `/health` shows their
    progress. An unloaded model comes back with the next request for it, unless its settings say
    `load = "never"`. A pull downloads a model of the settings, of the catalogue or of the hub, and
    its answer, 200, is a stream of its progress. A server that is about to end loads and pulls
    none: 503."""
    path = str(request.path_params["action"]).removeprefix("/")
    name, _, action = path.rpartition("/")
    if name and action == "pull":
        _check_goes_on(context)
        return await pull_answer(request, context, name)
    if not name or action not in _ACTIONS:
        raise NotFoundException
    model = base_name(context, name)
    await _ACTIONS[action](request, context, model)
    return JSONBytes(encode(context.manager.report(model)), 202)


async def _load(request: AnyRequest, context: Context, name: str) -> None:
    _check_goes_on(context)
    await read_optional_json(request, LoadRequest)
    context.manager.load(name)


async def _unload(request: AnyRequest, context: Context, name: str) -> None:
    data = await read_optional_json(request, UnloadRequest)
    context.manager.unload(name, force=data.force)


def _check_goes_on(context: Context) -> None:
    if context.drain.exits:
        raise ServerDraining(context.drain.retry_after)


_ACTIONS: dict[str, Callable[[AnyRequest, Context, str], Awaitable[None]]] = {
    "load": _load,
    "unload": _unload,
}
