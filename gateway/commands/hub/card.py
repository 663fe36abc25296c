"""What is to be said of a model: read from its file or folder, or told by the hub."""

from math import prod
from pathlib import Path

from msgspec import Struct

from gateway.chat.reasoning.formats import find_format
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.find_dialect import find_dialect
from runtime.errors import SetupError
from runtime.models.gguf import GGUFFile, read_whole_gguf
from runtime.models.repositories.client import RepositoryInfo
from runtime.models.repositories.listing import (
    Choice,
    memory_needed,
    quantisation_of,
)
from runtime.models.store import Model
from runtime.planning.config_shape import shape_of_config
from runtime.planning.gguf_shape import shape_of_gguf
from runtime.planning.model_shape import ModelShape
from runtime.planning.stored_format import read_object, stored_format
from runtime.tokenizers.chatml import CHATML, knows_chatml
from runtime.tokenizers.load import load_tokenizer

_KV_BYTES = 2
_RANK = 4
"""The `pooling_type` of models that say how well a text answers a question."""

_CARD = "README.md"
_CARD_BYTES = 1 << 16


class ModelCard(Struct, frozen=True, kw_only=True):
    """A model. Sizes are in bytes, `context` is in tokens; what is not known is None or "".

    `memory` is the least that it runs in, and `memory_full_context` what it needs with one sequence
    of the whole context, keys and values in 16 bits. `fits` compares `memory` with this machine.
    """

    name: str
    path: str
    is_present: bool
    form: str
    architecture: str
    parameters: int | None
    quantisation: str
    context: int | None
    licence: str
    chat_template: bool | None
    capabilities: tuple[str, ...]
    size: int
    memory: int
    memory_full_context: int | None
    fits: bool


def card_of_file(model: Model, memory: int) -> ModelCard:
    """The card of a GGUF file on the disk, which may be split. `memory` is what may be used here;
    0 if that is not known. Raises ModelFileError."""
    header = read_whole_gguf(model.path)
    size = header.file_size
    capabilities = _capabilities(model.path, header)
    return ModelCard(
        name=model.name,
        path=str(model.path),
        is_present=True,
        form="gguf",
        architecture=header.text("general.architecture"),
        parameters=sum(prod(tensor.shape) for tensor in header.tensors),
        quantisation=quantisation_of(model.path.name) or _usual_type(header),
        context=header.max_model_len or None,
        licence=_licence(model, header.text("general.license")),
        chat_template=bool(header.metadata.get("tokenizer.chat_template")),
        capabilities=capabilities,
        size=size,
        memory=memory_needed(size),
        memory_full_context=_with_context(size, _shape_of_file(header)),
        fits=not memory or memory_needed(size) <= memory,
    )


def card_of_folder(model: Model, memory: int) -> ModelCard:
    """The card of a checkpoint folder on the disk. Raises ModelFileError."""
    config = read_object(model.path / "config.json")
    shape = _shape_of_folder(config, model.path)
    size = sum(file.stat().st_size for file in model.path.glob("*.safetensors"))
    capabilities = _capabilities(model.path, None)
    return ModelCard(
        name=model.name,
        path=str(model.path),
        is_present=True,
        form="folder",
        architecture=shape.architecture if shape else str(config.get("model_type", "")),
        parameters=shape.num_params if shape else None,
        quantisation=stored_format(model.path, config)[0],
        context=shape.max_model_len if shape else None,
        licence=_licence(model, _licence_of_folder(model.path)),
        chat_template="chat" in capabilities,
        capabilities=capabilities,
        size=size,
        memory=memory_needed(size),
        memory_full_context=_with_context(size, shape),
        fits=not memory or memory_needed(size) <= memory,
    )


def card_of_hub(name: str, choice: Choice, info: RepositoryInfo, memory: int) -> ModelCard:
    """The card of a model that is on the hub alone, as far as the hub tells."""
    facts = info.gguf
    size = choice.num_bytes
    return ModelCard(
        name=name,
        path="",
        is_present=False,
        form="folder" if choice.is_folder else "gguf",
        architecture=facts.architecture if facts else "",
        parameters=(facts.total or None) if facts else None,
        quantisation=choice.quantisation,
        context=(facts.context_length or None) if facts else None,
        licence=info.licence,
        chat_template=bool(facts.chat_template) if facts else None,
        capabilities=(),
        size=size,
        memory=memory_needed(size),
        memory_full_context=None,
        fits=not memory or memory_needed(size) <= memory,
    )


def _usual_type(header: GGUFFile) -> str:
    """The type that most bytes of the weights have."""
    sizes: dict[str, int] = {}
    for tensor in header.tensors:
        sizes[tensor.type] = sizes.get(tensor.type, 0) + tensor.num_bytes
    return max(sizes, key=lambda kind: sizes[kind], default="")


def _shape_of_file(header: GGUFFile) -> ModelShape | None:
    try:
        return shape_of_gguf(header, header.path)
    except SetupError:  # the planner does not know this architecture
        return None


def _shape_of_folder(config: dict[str, object], folder: Path) -> ModelShape | None:
    try:
        return shape_of_config(config, folder.resolve().name)
    except SetupError:
        return None


def _with_context(size: int, shape: ModelShape | None) -> int | None:
    if shape is None:
        return None
    cache = shape.attended(shape.max_model_len) * shape.kv_width * _KV_BYTES
    return max(memory_needed(size), size + cache)


def _licence(model: Model, found: str) -> str:
    return model.entry.licence if model.entry is not None else found


def _licence_of_folder(folder: Path) -> str:
    """What the front matter of the repository's card says."""
    try:
        with (folder / _CARD).open("rb") as file:
            text = file.read(_CARD_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    head = text.partition("---")[2].partition("---")[0]
    lines = (line.partition(":") for line in head.splitlines())
    return next((value.strip(" \"'") for key, _, value in lines if key == "license"), "")


def _capabilities(path: Path, header: GGUFFile | None) -> tuple[str, ...]:
    """What can be asked of the model."""
    pooled = () if header is None else _pooled(header)
    if pooled and header is not None and not _is_causal(header):
        return pooled
    tokenizer = load_tokenizer(path)
    template = tokenizer.chat_template or (CHATML if knows_chatml(tokenizer.control_tokens) else "")
    found = {
        "completions": True,
        "chat": bool(template),
        "tools": bool(template) and find_dialect(template) is not GENERIC,
        "reasoning": find_format("auto", template) is not None,
        "fill in the middle": tokenizer.fim_tokens is not None,
    }
    return (*pooled, *(name for name, has_it in found.items() if has_it))


def _pooled(header: GGUFFile) -> tuple[str, ...]:
    """What a model is made for that gives one vector for a text, or one number."""
    kind = header.number(f"{header.text('general.architecture')}.pooling_type")
    if kind == _RANK:
        return ("rerank",)
    return ("embeddings",) if kind or not _is_causal(header) else ()


def _is_causal(header: GGUFFile) -> bool:
    return header.flag(f"{header.text('general.architecture')}.attention.causal", True)
