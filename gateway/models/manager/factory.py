"""Makes what a model of the settings needs to be loaded."""

from collections.abc import Callable
from pathlib import Path

from gateway.bounds.work_pool import WorkPool
from gateway.models.manager.runner import EngineRunner
from gateway.models.manager.slot import Slot
from gateway.models.manager.spec import ModelSpec
from gateway.models.served_model import ServedModel
from runtime.client.engine_client import EngineClient
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.messages.wire import FromEngine
from runtime.models.catalogue import shipped_catalogue
from runtime.models.integrity.guard import WeightsGuard
from runtime.supervisor.engine_output import EngineOutput
from runtime.supervisor.lessons import Lessons
from runtime.supervisor.supervisor import Supervisor

Listen = Callable[[str], Callable[[FromEngine], None]]
"""Gives who hears the messages of the engine of the model with this name."""


class ModelFactory:
    """Makes models and their engines' supervisors. `gpus` are asked for signs of life of an engine
    that loads; engines write to `output`."""

    def __init__(
        self, listen: Listen, gpus: GpuMonitor, pool: WorkPool, output: EngineOutput | None
    ) -> None:
        self._listen = listen
        self._gpus = gpus
        self._pool = pool
        self._output = output

    def slot(self, spec: ModelSpec) -> Slot:
        """A model that is not loaded."""
        client = EngineClient(spec.engine.max_num_waiting_tokens)
        model = ServedModel(spec.name, client, spec.model, self._pool)
        return Slot(spec, model, EngineRunner(spec, model, client, self._supervisor))

    def _supervisor(self, spec: ModelSpec, client: EngineClient, gives_up: bool) -> Supervisor:
        return Supervisor(
            spec.engine,
            spec.path,
            client,
            on_event=self._listen(spec.name),
            output=self._output,
            guard=weights_guard(spec.model.name_or_path, spec.path),
            lessons=Lessons(),
            gpu_bytes=lambda: sum(gpu.memory_used or 0 for gpu in self._gpus.snapshot.gpus),
            gives_up=gives_up,
        )


def weights_guard(name: str, path: str) -> WeightsGuard | None:
    """The guard of a model's file; None without a model, and for a folder, whose weights are copied
    when they are loaded. `name` is how the settings call the model."""
    if not Path(path).is_file():
        return None
    for entry in shipped_catalogue():
        if (entry.name, entry.file) == (name, Path(path).name):
            return WeightsGuard(Path(path), name=entry.name, expected=entry.sha256)
    return WeightsGuard(Path(path))
