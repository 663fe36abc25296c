"""Settings of the runtime: frozen, and a key that nobody knows is refused with its path."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from runtime.config.llama_cpp import (
    Auto,
    LlamaCppConfig,
)
from runtime.config.scripted import (
    ScriptedConfig,
)
from runtime.config.tensorrt_llm import TensorRTConfig

EngineName = Literal["llama_cpp", "scripted", "tensorrt_llm"]
PrefixCaching = Literal["shared", "per_tenant", "off"]
"""Which requests may reuse a prefix: all, those of the same tenant, or none."""


class EngineConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the scheduler may use. Counts are in sequences or tokens, times in seconds.

    `max_model_len` "auto" is the model's own context, as far as the memory for it allows;
    `num_kv_tokens` "auto" is room for at least one sequence of that length.
    `max_num_waiting_tokens` bounds the prompts that have no answer yet, in tokens; 0 does not.

    A request that has waited `priority_ageing` counts as one class higher; one that waits while
    lower classes run makes one of them give way after `preempt_after`; one that still waits after
    `max_queue_seconds` is refused. `prefix_caching` says who may reuse whose prompts; "auto" is
    "per_tenant" on a server with keys, else "shared". `prefix_cache_gb` says how many gigabytes
    (10^9 bytes) of plain memory keep those that nobody uses at the moment; "auto" is a tenth of
    what weights and KV cache leave. `prefix_cache_disk_gb` is the same for the disk, where they
    outlive the engine: 0 is off, "auto" is 10 or a tenth of the free disk, if that is less. Those
    that nobody has used for `prefix_cache_disk_days` are removed; 0 keeps them. They are in
    `prefix_cache_folder`; an empty one stands for a folder of the user's cache, and keeps none in
    an engine that runs outside a process of its own.

    An engine that loads may be silent for `start_timeout`: no message, no work of its processes.
    One that serves may be silent for `heartbeat_timeout`.

    An engine that dies is started again, at most `max_restarts` times within `restart_window`, and
    after that once every `failed_retry_interval`, never if that is 0.
    """

    name: EngineName = "llama_cpp"
    max_model_len: Annotated[int, Meta(ge=16)] | Auto = "auto"
    max_num_seqs: Annotated[int, Meta(ge=1, le=256)] = 16
    max_num_waiting: Annotated[int, Meta(ge=0)] = 256
    max_num_waiting_tokens: Annotated[int, Meta(ge=0)] = 1_000_000
    max_num_batched_tokens: Annotated[int, Meta(ge=1)] = 512
    max_step_ms: Annotated[float, Meta(gt=0)] = 250.0
    num_kv_tokens: Annotated[int, Meta(ge=16)] | Auto = "auto"
    prefix_caching: PrefixCaching | Auto = "auto"
    prefix_cache_gb: Annotated[float, Meta(ge=0)] | Auto = "auto"
    prefix_cache_disk_gb: Annotated[float, Meta(ge=0)] | Auto = "auto"
    prefix_cache_disk_days: Annotated[float, Meta(ge=0)] = 30.0
    prefix_cache_folder: str = ""
    priority_ageing: Annotated[float, Meta(gt=0)] = 30.0
    preempt_after: Annotated[float, Meta(ge=0)] = 2.0
    max_queue_seconds: Annotated[float, Meta(gt=0)] = 600.0
    start_timeout: Annotated[float, Meta(gt=0)] = 600.0
    heartbeat_timeout: Annotated[float, Meta(gt=0)] = 60.0
    max_restarts: Annotated[int, Meta(ge=0)] = 5
    restart_window: Annotated[float, Meta(gt=0)] = 600.0
    failed_retry_interval: Annotated[float, Meta(ge=0)] = 60.0
    llama_cpp: LlamaCppConfig = LlamaCppConfig()
    scripted: ScriptedConfig = ScriptedConfig()
    tensorrt_llm: TensorRTConfig = TensorRTConfig()

    @property
    def adapters(self) -> Sequence[str]:
        """The names of the adapters that the engine adds to the model."""
        if self.name == "llama_cpp":
            return list(self.llama_cpp.lora.adapters)
        return list(self.tensorrt_llm.lora.adapters) if self.name == "tensorrt_llm" else []

    @property
    def adapter_files(self) -> Mapping[str, str]:
        """The paths of adapters in GGUF files, by name; empty for an engine that takes others."""
        if self.name != "llama_cpp":
            return {}
        return {name: each.path for name, each in self.llama_cpp.lora.files.items()}

    @property
    def adapter_folder(self) -> str:
        """The folder from which adapters can be loaded while the engine serves; empty if not."""
        return self.llama_cpp.lora.folder if self.name == "llama_cpp" else ""

    @property
    def budget_obstacle(self) -> str:
        """The setting that drafts tokens, where the engine cannot end the reasoning of drafted
        tokens; empty if a reasoning budget can be kept."""
        drafts = self.tensorrt_llm.speculative.__struct_config__.tag != "none"
        if self.name == "tensorrt_llm" and drafts:
            return "engine.tensorrt_llm.speculative"
        return ""
