"""Settings of the llama.cpp engine."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Auto = Literal["auto"]


class LlamaCppConfig(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The embedded engine.

    `use_extra_bufts` lets llama.cpp repack weights for the processor at hand (AMX, AVX-512);
    "auto" tries, and does without when an engine has died of it here. `flash_attention` "auto" is
    on where layers are on a GPU: on the processor it is the slower kind.
    """

    num_threads: Annotated[int, Meta(ge=1)] | Auto = "auto"
    num_gpu_layers: Annotated[int, Meta(ge=0)] = 0
    use_extra_bufts: bool | Auto = "auto"
    flash_attention: bool | Auto = "auto"
