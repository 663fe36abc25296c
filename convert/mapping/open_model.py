"""The model to convert, from a GGUF file or a Hugging Face folder."""

from pathlib import Path

from msgspec import Struct

from convert.architectures import find_architecture
from convert.architectures.base import Architecture, Config
from convert.mapping.folder import folder_architecture, folder_config, map_folder
from convert.mapping.gguf import map_weights
from convert.source.folder import FolderSource, open_folder
from convert.source.gguf import GGUFSource, open_source
from convert.tensors.weights import Weight
from runtime.errors import SetupError


class Model(Struct, frozen=True):
    """All that headers and configuration say. `config` has every size, also those left out."""

    source: GGUFSource | FolderSource
    architecture: Architecture
    config: Config
    weights: list[Weight]

    @property
    def is_packed(self) -> bool:
        """Whether its weights are integers of AWQ or GPTQ."""
        return isinstance(self.source, FolderSource) and bool(self.source.packed)


def open_any(path: Path) -> GGUFSource | FolderSource:
    """The tensors of a GGUF file or a folder. Raises ModelFileError."""
    return open_folder(path) if path.is_dir() else open_source(path)


def open_model(path: Path, *, requantize: bool = False) -> Model:
    """Read headers and configuration, and name every weight.

    With `requantize` the levels of a packed source are decoded like any other values. Raises
    ModelFileError for an unknown model, SetupError for `requantize` without levels.
    """
    source = open_any(path)
    if isinstance(source, FolderSource):
        architecture = folder_architecture(source)
        config = folder_config(source)
        weights = map_folder(source, architecture, config, keep_levels=not requantize)
    else:
        architecture = find_architecture(source)
        config = architecture.config(source)
        weights = map_weights(source, architecture, config)
    model = Model(source, architecture, config, weights)
    if requantize and not model.is_packed:
        raise SetupError(f"{path}: --requantize is for sources that AWQ or GPTQ has packed.")
    return model
