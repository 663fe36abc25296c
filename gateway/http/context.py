"""The objects that all handlers share, which Litestar provides."""

import time
from typing import Any, Protocol

import msgspec
from litestar import Request
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct

from gateway.admission.accounts import check_budgets_of
from gateway.admission.drain import Drain
from gateway.admission.middleware import principal_of
from gateway.bounds.bounds import Bounds
from gateway.generation.scheduling import Caller
from gateway.http.deadlines import Uploads
from gateway.http.loading.leases import hold_model, lease_of
from gateway.http.other_paths import OtherPaths
from gateway.models.manager.manager import ModelManager
from gateway.models.manager.unlisted import UnlistedModels
from gateway.models.pulls.lookup import Lookups
from gateway.models.registry import ModelRegistry
from gateway.models.served_model import ServedModel
from gateway.observability.finished_request import Tracer
from gateway.observability.metrics.server import Metrics
from gateway.observability.request_attributes import request_attributes
from gateway.observability.request_record import RequestRecord, key_fingerprint
from gateway.reload.reloader import Reloader
from gateway.settings.live import LiveSettings
from gateway.settings.schema import Settings
from gateway.store.store import Store
from gateway.usage.ledger import Ledger
from runtime.hardware.gpu_monitor import GpuMonitor

AnyRequest = Request[Any, Any, Any]


class Context(Struct, frozen=True):
    """One running server. `model` answers requests that name none: the first that is loaded with
    the server, else the first of all. `manager` loads and unloads the models, and `unlisted` finds
    those that the settings do not name. `lookups` asks the hub for models. `uploads` are the bodies
    that are arriving, `other_paths` knows what clients mean by paths that are not here. `reloader`
    changes the settings, whose owner is `live`. `ledger` counts what requests use. `store` is None
    if nothing is remembered, and `tracer` if traces are off."""

    live: LiveSettings
    models: ModelRegistry
    model: ServedModel
    metrics: Metrics
    gpus: GpuMonitor
    drain: Drain
    manager: ModelManager
    unlisted: UnlistedModels
    lookups: Lookups
    bounds: Bounds
    uploads: Uploads
    other_paths: OtherPaths
    reloader: Reloader
    ledger: Ledger
    store: Store | None = None
    tracer: Tracer | None = None

    @property
    def settings(self) -> Settings:
        """Those that hold now."""
        return self.live.current


def provide_context(request: AnyRequest) -> Context:
    """The server that received this request, with the models that the request's key may use."""
    context = request.app.state.context
    assert isinstance(context, Context), "create_app puts it there"
    principal = principal_of(request.scope)
    if principal is None or principal.entry.models is None:
        return context
    models = context.models.restricted(principal.entry.models)
    return msgspec.structs.replace(context, models=models)


CurrentContext = SkipValidation[NamedDependency[Context]]
"""The type of a handler's argument `context`, which Litestar provides."""


async def model_of(context: Context, request: AnyRequest, name: str | None) -> ServedModel:
    """The model of this name, which the request holds from now on; None means the server's own
    model, or the first of the request's key if that may not use it. Raises UnknownModel, also if
    the key may not use the model."""
    if name is None:
        name = context.models.default(context.model.name)
    await context.unlisted.admit(name, context.models)
    model = context.models.get(name)
    hold_model(request.scope, context.manager, base_name(context, name))
    return model


def base_name(context: Context, name: str | None) -> str:
    """The name of the model behind an alias or an adapter, and for None of the model that answers
    requests that name none. Raises UnknownModel."""
    name = context.models.default(context.model.name) if name is None else name
    found = context.models.get(name).name
    return context.models.base_of(found) or found


class NamesModel(Protocol):
    """The decoded body of a request that names its model, or does not."""

    @property
    def model(self) -> str | None: ...


async def served_model(context: Context, request: AnyRequest, data: NamesModel) -> ServedModel:
    """Like `model_of`, for a request that counts for the model's metrics and for the budgets of its
    key. Raises BudgetExhausted, too."""
    check_budgets_of(request.scope, context.ledger, context.settings.prices)
    model = await model_of(context, request, data.model)
    _note_model(context, request, data, model)
    return model


def _note_model(
    context: Context, request: AnyRequest, data: NamesModel, model: ServedModel
) -> None:
    """Adds the names of the model and of the key to the request's metrics, log line and trace. An
    adapter counts as its base model."""
    request_record = RequestRecord.of(request.scope)
    if context.tracer is not None:
        request_record.attributes = request_attributes(data, data.model or model.name)
    request_record.model_name = context.models.base_of(model.name) or model.name
    principal = principal_of(request.scope)
    if principal is not None:
        request_record.key_name = principal.name


def caller_of(context: Context, request: AnyRequest) -> Caller:
    """The arrival time and the origin of this request."""
    arrival_time = RequestRecord.of(request.scope).started
    lease = lease_of(request.scope)
    engine = context.settings.engine if lease is None else lease.spec.engine
    principal = principal_of(request.scope)
    fingerprint = principal.name if principal else key_fingerprint(request.scope["headers"])
    return Caller(
        arrival_time=arrival_time,
        unix_time=time.time() - (time.monotonic() - arrival_time),
        key_fingerprint=fingerprint,
        key_priority=principal.entry.priority if principal else None,
        has_key=principal is not None,
        max_queue_seconds=engine.max_queue_seconds,
        prefix_caching=engine.prefix_caching,
    )
