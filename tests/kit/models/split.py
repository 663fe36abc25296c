"""Split GGUF files, as llama.cpp's own tool makes them."""

from pathlib import Path

import gguf

from tests.kit.models.tiny_model import write_out


def split_gguf(path: Path, folder: Path, *, max_tensors: int = 8) -> list[Path]:
    """Writes the parts of a model into a folder that is there, and returns them in order."""
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(folder / path.name, architecture, split_max_tensors=max_tensors)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind, is_list = field.types[0], len(field.types) > 1
            writer.add_key_value(
                field.name, field.contents(), kind, sub_type=field.types[-1] if is_list else None
            )
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    write_out(writer)
    writer.close()
    return sorted(folder.glob(f"{path.stem}-*-of-*.gguf"))
