"""Whether a model's vectors may be cut short."""

from functools import lru_cache

from runtime.models.gguf import read_gguf


@lru_cache(maxsize=4)
def is_matryoshka(model_path: str) -> bool:
    """Whether a GGUF file says that its model was trained so that the first numbers of a vector are
    a vector too: in its `general.tags`, where converters write the tags of a model's card, such as
    "loss:MatryoshkaLoss". Raises ModelFileError. Reads the file's header, which takes a moment."""
    if not model_path.lower().endswith(".gguf"):
        return False
    return any("matryoshka" in tag.lower() for tag in read_gguf(model_path).strings("general.tags"))
