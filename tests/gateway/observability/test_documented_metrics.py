"""Metrics: what is shown is what the documents say."""

import re
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from gateway.observability.answer_record import AnswerRecord
from gateway.observability.metrics.exposition import FAMILIES, render
from gateway.observability.metrics.server import Metrics
from runtime.client.engine_client import EngineClient
from runtime.hardware.gpu_monitor import GpuMonitor
from runtime.hardware.nvml import GpuReader
from tests.kit.chat.answers import CHAT
from tests.kit.engines import READY
from tests.kit.fake_nvml import FakeGpu, FakeNvml
from tests.kit.root import ROOT
from tests.kit.shown_metrics import BOUNDS, exchange_of, new_metrics, text_of

DOCUMENT = ROOT / "docs" / "metrics.md"
ROW = re.compile(
    r"^\| `(?P<name>[a-z0-9_]+)` \| (?P<kind>\w+) \| (?P<labels>[^|]*) \| [^|]+ \|$", re.M
)


def documented() -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        row["name"]: (row["kind"], tuple(re.findall(r"`(\w+)`", row["labels"])))
        for row in ROW.finditer(DOCUMENT.read_text(encoding="utf-8"))
    }


def exposed_name(name: str, kind: str) -> str:
    """As Prometheus stores it; for a histogram without _bucket, _sum and _count."""
    return name + {"counter": "_total", "info": "_info"}.get(kind, "")


def gpu_rows() -> dict[str, tuple[str, tuple[str, ...]]]:
    """The GPUs' families, their labels found on a GPU that tells everything."""
    gpu = FakeGpu()
    nvml = FakeNvml([gpu])
    monitor, reader = GpuMonitor(interval=60), GpuReader(nvml)
    monitor.update(reader.read())
    nvml.xid(gpu, 13)
    monitor.update(reader.read())
    return {
        exposed_name(family.name, family.type): (
            family.type,
            tuple(family.samples[0].labels),
        )
        for family in text_string_to_metric_families(text_of(Metrics(), monitor=monitor))
        if family.name.startswith("lockgate_gpu")
    }


def test_the_document_names_every_metric_and_no_other():
    declared: Mapping[str, tuple[str, tuple[str, ...]]] = {
        exposed_name(family.name, family.kind): (family.kind, family.labels) for family in FAMILIES
    }
    found = {name: (kind, set(labels)) for name, (kind, labels) in documented().items()}
    expected = {
        name: (kind, set(labels)) for name, (kind, labels) in (declared | gpu_rows()).items()
    }
    expected = {
        name: ("gauge" if kind == "info" else kind, labels)
        for name, (kind, labels) in expected.items()
    }
    assert found == expected


def test_every_family_is_there_before_the_first_request():
    for text in (
        text_of(Metrics()),
        render(Metrics(), {}, GpuMonitor(interval=1), {}, BOUNDS).decode(),
    ):
        exposed = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert set(exposed) >= {exposed_name(family.name, family.kind) for family in FAMILIES}
        assert len(exposed) == len(set(exposed)), "no name stands for two families"


def test_no_family_has_labels_beside_those_it_declares():
    metrics = new_metrics(max_keys=1)
    good = exchange_of()
    good.key_name = "k"
    good.answer = AnswerRecord(1)
    good.answer.first_token, good.answer.ended = good.started + 1, good.started + 2
    good.answer.completion_tokens, good.answer.outcome = 5, "completed"
    metrics.on_response(good, CHAT, 1.0)
    client = EngineClient()
    client.connected(lambda _: None, READY)
    declared = {
        f"{family.name}_info" if family.kind == "info" else family.name: set(family.labels)
        for family in FAMILIES
    }
    without_samples = set(declared)
    for family in text_string_to_metric_families(text_of(metrics, client)):
        for sample in family.samples:
            if family.name in declared:
                assert set(sample.labels) - {"le"} == declared[family.name], family.name
                without_samples.discard(family.name)
    assert without_samples == set()
