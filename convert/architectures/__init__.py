"""One table for each family of models: how its files become a checkpoint."""

from convert.architectures import gemma, llama, phi, qwen
from convert.architectures.base import Architecture
from convert.source.gguf import GGUFSource
from runtime.errors import ModelFileError

KNOWN: dict[str, Architecture] = {
    architecture.name: architecture
    for architecture in (
        llama.LLAMA,
        qwen.QWEN2,
        qwen.QWEN3,
        qwen.QWEN3_MOE,
        gemma.GEMMA2,
        gemma.GEMMA3,
        phi.PHI3,
    )
}


def find_architecture(source: GGUFSource) -> Architecture:
    """The table for this model. Raises ModelFileError, which lists the known architectures, if
    there is none."""
    found = KNOWN.get(source.architecture)
    if found is None:
        raise ModelFileError(
            f"{source.header.path}: `general.architecture` is {source.architecture!r}; "
            f"known are {', '.join(sorted(KNOWN))}."
        )
    # Mixtral's files have the architecture "llama", too
    is_mixtral = found is llama.LLAMA and source.header.number("llama.expert_count", 0)
    return llama.MIXTRAL if is_mixtral else found
