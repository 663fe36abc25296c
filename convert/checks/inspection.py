"""What a model file or folder is, without reading its weights."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from convert.architectures import KNOWN
from convert.mapping.open_model import Model, open_model
from convert.source.gguf import open_source
from convert.tensors.safetensors_file import read_places
from runtime.errors import ModelFileError, SetupError


class Inspection(Struct, frozen=True, kw_only=True):
    """`num_bytes` is the size on disk, `mix` the number of values by type. `context` is in tokens,
    0 if unknown.

    `convertible` is "" or the reason why `lockgate-convert run` would refuse it.
    """

    path: str
    format: str
    name: str
    architecture: str
    num_files: int
    num_bytes: int
    num_tensors: int
    num_parameters: int
    mix: dict[str, int]
    context: int
    vocabulary: int
    tokenizer: str
    has_chat_template: bool
    convertible: str


def inspect(path: Path) -> Inspection:
    """Read the headers of a GGUF file or a folder of safetensors. Raises ModelFileError."""
    return _inspect_folder(path) if path.is_dir() else _inspect_gguf(path)


def _inspect_gguf(path: Path) -> Inspection:
    source = open_source(path)
    header, tensors = source.header, source.tensors.values()
    kind = header.text("tokenizer.ggml.model", "none")
    rule = header.text("tokenizer.ggml.pre")
    known = source.architecture in KNOWN
    return Inspection(
        path=str(path),
        format=f"GGUF {header.version}",
        name=header.text("general.name"),
        architecture=source.architecture,
        num_files=len(source.parts),
        num_bytes=source.num_bytes,
        num_tensors=len(tensors),
        num_parameters=sum(tensor.num_values for tensor in tensors),
        mix=_mix((tensor.type, tensor.num_values) for tensor in tensors),
        context=header.max_model_len,
        vocabulary=len(header.strings("tokenizer.ggml.tokens")),
        tokenizer=f"{kind}, {rule}" if rule else kind,
        has_chat_template=bool(header.text("tokenizer.chat_template")),
        convertible="" if known else f"known architectures are {', '.join(sorted(KNOWN))}",
    )


def _inspect_folder(path: Path) -> Inspection:
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise ModelFileError(f"{path}: there are no safetensors files in this folder.")
    model, refusal = _model(path)
    outputs = [place.output for file in files for place in read_places(file).values()]
    config = _read_json(path / "config.json")
    tokenizer_config = _read_json(path / "tokenizer_config.json")
    architectures = config.get("architectures")
    context, vocabulary = config.get("max_position_embeddings"), config.get("vocab_size")
    counts = [(output.dtype, _product(output.shape)) for output in outputs]
    if model is not None:
        counts = [(tensor.type, tensor.num_values) for tensor in model.source.tensors.values()]
    return Inspection(
        path=str(path),
        format="safetensors",
        name=path.name,
        architecture=str(architectures[0]) if isinstance(architectures, list) else "",
        num_files=len(files),
        num_bytes=sum(file.stat().st_size for file in files),
        num_tensors=len(counts),
        num_parameters=sum(count for _, count in counts),
        mix=_mix(counts),
        context=context if isinstance(context, int) else 0,
        vocabulary=vocabulary if isinstance(vocabulary, int) else 0,
        tokenizer=str(tokenizer_config.get("tokenizer_class", "none")),
        has_chat_template=_has_template(path, tokenizer_config),
        convertible=refusal,
    )


def _model(path: Path) -> tuple[Model | None, str]:
    """The model in a folder, or why it cannot be converted."""
    try:
        return open_model(path), ""
    except SetupError as error:
        return None, str(error)


def _mix(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    mix: dict[str, int] = {}
    for kind, count in counts:
        mix[kind] = mix.get(kind, 0) + count
    return dict(sorted(mix.items(), key=lambda item: -item[1]))


def _product(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _has_template(path: Path, tokenizer_config: dict[str, object]) -> bool:
    return "chat_template" in tokenizer_config or (path / "chat_template.jinja").is_file()


def _read_json(path: Path) -> dict[str, object]:
    if not path.is_file():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: {error}") from error
