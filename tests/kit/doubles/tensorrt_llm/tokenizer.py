"""The tokenizer of a model folder, with the few names that `SamplingParams` uses."""

import json
from pathlib import Path
from typing import Any


class Tokenizer:
    """`tokenizer.json`, read without transformers, which takes seconds to import."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as FastTokenizer

        self._tokenizer = FastTokenizer.from_file(str(folder / "tokenizer.json"))
        ids = end_token_ids(folder)
        self.eos_token_id = ids[0] if ids else None
        self.pad_token_id = None
        self.name_or_path = str(folder)

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    def decode(self, token_ids: list[int], skip_special_tokens: bool = True) -> str:
        return self._tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens)


def load_tokenizer(source: str | Path | Any) -> Any:
    """The tokenizer of a folder; an object that is one already is returned as it is."""
    if not isinstance(source, str | Path):
        return source
    folder = Path(source)
    if (folder / "tokenizer.json").is_file():
        return Tokenizer(folder)
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder), local_files_only=True)


def read_json(path: Path) -> dict[str, Any]:
    """The file's object, or {} where there is no file."""
    return json.loads(path.read_text()) if path.is_file() else {}


def end_token_ids(folder: Path) -> list[int]:
    """The end tokens that the model folder names, the principal one first."""
    for name in ("generation_config.json", "config.json"):
        value = read_json(folder / name).get("eos_token_id")
        if value is not None:
            return list(value) if isinstance(value, list) else [value]
    return []
