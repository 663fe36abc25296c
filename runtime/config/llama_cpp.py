"""Settings of the llama.cpp engine."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Auto = Literal["auto"]
KvCacheDtype = Literal["f16", "q8_0", "q4_0"]


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
    attention.
    """

    library: Annotated[str, Meta(min_length=1)] = "auto"
    num_threads: Annotated[int, Meta(ge=1)] | Auto = "auto"
    num_gpu_layers: Annotated[int, Meta(ge=0)] = 0
    use_extra_bufts: bool | Auto = "auto"
    repack_tensors: bool | Auto = "auto"
    flash_attention: bool | Auto = "auto"
    kv_cache_dtype: KvCacheDtype = "f16"
