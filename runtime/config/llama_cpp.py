"""Settings of the llama.cpp engine."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

Auto = Literal["auto"]
KvCacheDtype = Literal["f16", "q8_0", "q4_0"]


class LoRAAdapter(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The GGUF file of an adapter, and the factor with which it is added to the weights."""

    path: Annotated[str, Meta(min_length=1)]
    scale: Annotated[float, Meta(ge=-100, le=100)] = 1.0


class LlamaCppLoRAConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """LoRA adapters by name: `adapters` maps names to GGUF files, or to a file and its scale. From
    `folder` more of them can be loaded while the server runs; they cannot if it is empty."""

    adapters: dict[str, str | LoRAAdapter] = {}
    folder: str = ""

    @property
    def files(self) -> dict[str, LoRAAdapter]:
        """The adapters by name, each with its scale, and "~" in its path replaced."""
        return {name: _adapter(each) for name, each in self.adapters.items()}

    @property
    def is_used(self) -> bool:
        """Whether there may be adapters."""
        return bool(self.adapters or self.folder)


def _adapter(given: str | LoRAAdapter) -> LoRAAdapter:
    path, scale = (given, 1.0) if isinstance(given, str) else (given.path, given.scale)
    return LoRAAdapter(path=str(Path(path).expanduser()), scale=scale)


class LlamaCppConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The embedded engine.

    `library` names what computes: a family of libraries ("ik_llama.cpp", "llama.cpp"), or a
    library's file; "auto" is the fastest one that is installed, knows the model and passes a
    self-check, "cautious" prefers llama.cpp. `repack_tensors` lets ik_llama.cpp arrange all weights
    for the processor, in memory of the process's own; "auto" does where they fit twice.

    `use_extra_bufts` lets llama.cpp repack weights for the processor at hand (AMX, AVX-512);
    "auto" tries, and does without when an engine has died of it here. `flash_attention` "auto" is
    on where layers are on a GPU: on the processor it is the slower kind. `kv_cache_dtype` is the
    type of values in the cache; keys have it too, but 8 bits at least. All but "f16" need flash
    attention. `lora` are adapters, each of which is a model name of its own.
    """

    library: Annotated[str, Meta(min_length=1)] = "auto"
    num_threads: Annotated[int, Meta(ge=1)] | Auto = "auto"
    num_gpu_layers: Annotated[int, Meta(ge=0)] = 0
    use_extra_bufts: bool | Auto = "auto"
    repack_tensors: bool | Auto = "auto"
    flash_attention: bool | Auto = "auto"
    kv_cache_dtype: KvCacheDtype = "f16"
    lora: LlamaCppLoRAConfig = LlamaCppLoRAConfig()
