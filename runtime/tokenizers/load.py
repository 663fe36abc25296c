"""The tokenizer of a model file or folder."""

from pathlib import Path

from runtime.models.gguf import read_gguf
from runtime.tokenizers.byte_tokenizer import (
    ByteTokenizer,
)
from runtime.tokenizers.gguf.bpe import load_bpe_tokenizer
from runtime.tokenizers.gguf.llama_vocab import LlamaVocabTokenizer
from runtime.tokenizers.hf.tokenizer import HFTokenizer
from runtime.tokenizers.tokenizer import (
    Tokenizer,
)


def load_tokenizer(model_path: str | Path) -> Tokenizer:
    """The tokenizer of a GGUF file or a checkpoint folder; for "" the built-in `ByteTokenizer`.

    Byte-level BPE vocabularies that tiktoken reproduces exactly use tiktoken. All others use
    llama.cpp for a file and the `tokenizers` library for a folder. Raises ModelFileError if there
    is no usable vocabulary, and MissingExtra if llama.cpp is needed and not installed.
    """
    if not str(model_path):
        return ByteTokenizer()
    if Path(model_path).is_dir():
        return HFTokenizer(Path(model_path))
    file = read_gguf(model_path)
    return load_bpe_tokenizer(file) or LlamaVocabTokenizer(file)
