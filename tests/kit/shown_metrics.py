"""What a test sees of the metrics of a server."""

from prometheus_client.parser import text_string_to_metric_families

from gateway.app import ROUTES
from gateway.bounds.bounds import Bounds
from gateway.http.route_facts import operations_of
from gateway.observability.metrics.exposition import render
from gateway.observability.metrics.processes import own_usage
from gateway.observability.metrics.server import Metrics
from gateway.observability.request_record import RequestRecord
from gateway.settings.schema import ServerSettings
from runtime.client.engine_client import EngineClient
from runtime.hardware.gpu_monitor import GpuMonitor

BOUNDS = Bounds.of(ServerSettings())


def text_of(
    metrics: Metrics, client: EngineClient | None = None, monitor: GpuMonitor | None = None
) -> str:
    monitor = monitor or GpuMonitor(interval=1)
    processes = {"gateway": own_usage()}
    return render(metrics, {"m": client or EngineClient()}, monitor, processes, BOUNDS).decode()


class Shown:
    """Samples by name and labels; `model_name="m"` goes without saying."""

    def __init__(self, text: str) -> None:
        self.samples = [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]

    def __call__(self, name: str, **labels: str) -> float:
        found = [
            value
            for sample_name, of_sample, value in self.samples
            if sample_name == f"lockgate_{name}"
            and {k: v for k, v in of_sample.items() if (k, v) != ("model_name", "m")} == labels
        ]
        assert len(found) == 1, f"{name}{labels}: {found}"
        return found[0]


OPERATIONS = operations_of(ROUTES)


def new_metrics(max_keys: int = 0) -> Metrics:
    """The counters of a server with all routes."""
    return Metrics(max_keys, operations=OPERATIONS)


def exchange_of(
    model_name: str = "m", status: int = 200, error: str | None = None
) -> RequestRecord:
    request_record = RequestRecord([])
    request_record.model_name = model_name
    request_record.status = status
    request_record.error_code = error
    return request_record
