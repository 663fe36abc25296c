"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them: for the operator."""

import time
from pathlib import Path
from typing import Annotated, Literal

from litestar import post
from litestar.types import ASGIApp
from msgspec import Meta, Struct

from gateway.admission.middleware import ADMIN
from gateway.errors import PermissionDenied, UnknownAdapter
from gateway.generation.writer import encode
from gateway.http.body import read_optional_json
from gateway.http.context import AnyRequest, CurrentContext, base_name
from gateway.http.json_response import JSONBytes
from gateway.http.route_facts import BODY_ERRORS, facts
from runtime.errors import InvalidRequest

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class LoadAdapterRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`lora_path` is a GGUF file in the folder that the settings name, `lora_name` the model's name
    from now on. `scale` is the factor with which the adapter is added to the weights of
    `base_model_name`, or without it of the server's own model."""

    lora_name: Name
    lora_path: Annotated[str, Meta(min_length=1)]
    scale: Annotated[float, Meta(ge=-100, le=100)] = 1.0
    base_model_name: str | None = None


class UnloadAdapterRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The adapter that is not needed any more."""

    lora_name: Name


class AdapterState(Struct, frozen=True):
    """What became of the adapter. One that is "unloaded" finishes its running requests."""

    lora_name: str
    status: Literal["loaded", "unloaded"]


@post(
    "/v1/load_lora_adapter",
    opt={ADMIN: True, **facts(body=LoadAdapterRequest, answer=AdapterState, errors=BODY_ERRORS)},
    status_code=200,
)
async def load_lora_adapter(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Load a LoRA adapter, which then is a model of its own until the server ends."""
    data = await read_optional_json(request, LoadAdapterRequest)
    name, base = data.lora_name, base_name(context, data.base_model_name)
    context.models.check_free(name)
    lease = context.manager.hold(base)
    try:
        engine = lease.spec.engine
        path = _file(_folder(engine.adapter_folder), data.lora_path)
        await lease.loaded(time.monotonic() + engine.max_queue_seconds)
        await lease.model.engine.load_adapter(name, path, data.scale)
    finally:
        lease.release()
    context.models.add_adapter(name, base)
    return _state(AdapterState(name, "loaded"))


@post(
    "/v1/unload_lora_adapter",
    opt={ADMIN: True, **facts(body=UnloadAdapterRequest, answer=AdapterState, errors=BODY_ERRORS)},
    status_code=200,
)
async def unload_lora_adapter(request: AnyRequest, context: CurrentContext) -> ASGIApp:
    """Take a LoRA adapter away from new requests, and free it when no request needs it."""
    data = await read_optional_json(request, UnloadAdapterRequest)
    base = context.models.base_of(data.lora_name)
    if base is None:
        raise UnknownAdapter(data.lora_name, context.models.adapter_names)
    context.models.remove_adapter(data.lora_name)
    context.models.get(base).engine.unload_adapter(data.lora_name)
    return _state(AdapterState(data.lora_name, "unloaded"))


def _folder(folder: str) -> Path:
    """Raises PermissionDenied where the settings allow no adapters to be loaded."""
    if not folder:
        raise PermissionDenied(
            "This server loads no adapters while it runs. The setting engine.llama_cpp.lora.folder,"
            " the folder that they may come from, allows it."
        )
    return Path(folder).expanduser().resolve()


def _file(folder: Path, given: str) -> str:
    """The file that a request names, which must lie in the folder, also behind links."""
    try:
        path = (folder / given).resolve()
        is_file = path.is_relative_to(folder) and path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        is_file = False
    if not is_file:
        raise InvalidRequest(
            "`lora_path` is no file in the folder of the setting engine.llama_cpp.lora.folder.",
            param="lora_path",
        )
    return str(path)


def _state(state: AdapterState) -> ASGIApp:
    return JSONBytes(encode(state))
