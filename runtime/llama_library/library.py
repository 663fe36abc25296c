"""One class for every llama.cpp library; families differ in what is abstract here."""

import ctypes
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, ClassVar

from runtime.llama_library.functions import COMMON, Function, LogCallback, ProgressCallback, bind
from runtime.llama_library.values import (
    KEY_TYPES,
    VALUE_TYPES,
    BatchArrays,
    ContextOptions,
    LoadedModel,
    ModelOptions,
    ModelShape,
    Traits,
)
from runtime.models.gguf import GGUFFile

LOG_LEVEL_ERROR = 4
"""GGML_LOG_LEVEL_ERROR of ggml.h."""

MAX_MESSAGES = 5
_PIECE_BYTES = 64
_TEXT_BYTES = 256
_NO_POOLING, _RANK = 0, 4
"""LLAMA_POOLING_TYPE_NONE and LLAMA_POOLING_TYPE_RANK of llama.h."""

CONTROL_OR_UNKNOWN = 8 | 1
"""LLAMA_TOKEN_ATTR_CONTROL and LLAMA_TOKEN_ATTR_UNKNOWN of llama.h."""


class LlamaLibrary(ABC):
    """A loaded library. Models, contexts and results of a step are addresses in its memory. Not
    thread-safe; it stays loaded until the process ends.

    Raises LibraryUnusable when the library lacks a function or has other structures than declared.
    """

    family: ClassVar[str]
    """The name of the family, as in the setting."""

    traits: ClassVar[Traits]
    functions: ClassVar[Mapping[str, Function]]
    aliases: ClassVar[Mapping[str, str]]
    """Functions that families have under several names: the name here, and that of the family."""

    batch: ClassVar[type[ctypes.Structure]]
    """The structure of a batch."""

    def __init__(self, library: ctypes.CDLL, version: str) -> None:
        self.version = version
        self._c: SimpleNamespace = bind(library, {**COMMON, **self.functions})
        for name, own in self.aliases.items():
            setattr(self._c, name, getattr(self._c, own))
        self._check_structures()
        self._messages: deque[str] = deque(maxlen=MAX_MESSAGES)
        self._on_log = LogCallback(self._note)  # the library keeps a bare pointer to it
        self._c.llama_backend_init()

    def last_messages(self) -> str:
        """The last errors that the library has logged, at most five; empty without any."""
        return " ".join(self._messages)

    def load_model(
        self,
        path: str,
        options: ModelOptions,
        on_progress: Callable[[float], None] = lambda _: None,
        file: GGUFFile | None = None,
    ) -> LoadedModel | None:
        """Load a GGUF file. `on_progress` gets the share that is there, again and again; `file` is
        the file's header, if it has been read. None if the library refuses the file;
        `last_messages` then say why."""
        self._messages.clear()
        self._c.llama_log_set(self._on_log, None)  # another user of the library may have changed it

        def go_on(share: float, _user_data: object) -> bool:
            on_progress(share)
            return True

        params = self._c.llama_model_default_params()
        params.progress_callback = ProgressCallback(go_on)
        params.vocab_only = options.vocab_only
        params.n_gpu_layers = options.num_gpu_layers
        self._complete_model_params(params, options)
        address = self._c.llama_model_load_from_file(os.fsencode(path), params)
        if not address:
            return None
        model = LoadedModel(address, self._c.llama_model_get_vocab(address))
        if not options.vocab_only:
            self._note_model(model, path, file)
        return model

    def objection(self, file: GGUFFile) -> str:
        """Why it must not compute a model file that it knows, in words that follow its name; empty
        if it may."""
        return ""

    def adapter_objection(self, file: GGUFFile) -> str:
        """Why it must not add a LoRA adapter to a model, in words that follow its name; empty if it
        may."""
        return ""

    @abstractmethod
    def free_model(self, model: LoadedModel) -> None:
        """Free a model whose contexts have been freed."""

    @abstractmethod
    def shape(self, model: LoadedModel) -> ModelShape:
        """The model's numbers."""

    def metadata(self, model: LoadedModel, key: str) -> str:
        """A number, flag or text of the file's metadata as text; "" if it is absent."""
        buffer = ctypes.create_string_buffer(_TEXT_BYTES)
        size = self._c.llama_model_meta_val_str(model.address, key.encode(), buffer, _TEXT_BYTES)
        return buffer.value.decode(errors="replace") if size >= 0 else ""

    def num_vocab(self, model: LoadedModel) -> int:
        """How many tokens the vocabulary has."""
        return int(self._c.llama_vocab_n_tokens(model.vocab))

    def eog_token_ids(self, model: LoadedModel) -> frozenset[int]:
        """Every token that ends a generation, as the library sees it."""
        is_eog, vocab = self._c.llama_vocab_is_eog, model.vocab
        return frozenset(each for each in range(self.num_vocab(model)) if is_eog(vocab, each))

    def bos_and_eos(self, model: LoadedModel) -> tuple[int, int]:
        """The tokens that begin and end a text; negative where there is none."""
        return self._c.llama_vocab_bos(model.vocab), self._c.llama_vocab_eos(model.vocab)

    @abstractmethod
    def fim_tokens(self, model: LoadedModel) -> tuple[int, int, int]:
        """The tokens before a prefix, a suffix and a middle; negative where there is none."""

    @abstractmethod
    def token_attributes(self, model: LoadedModel, token_id: int) -> int:
        """Flags of a token: `llama_token_attr` of llama.h."""

    def is_structural(self, model: LoadedModel, token_id: int) -> bool:
        """Whether a token structures a prompt or stands for nothing known."""
        return bool(self.token_attributes(model, token_id) & CONTROL_OR_UNKNOWN)

    def token_text(self, model: LoadedModel, token_id: int) -> str:
        """The token as the file spells it."""
        text: bytes = self._c.llama_vocab_get_text(model.vocab, token_id)
        return text.decode("utf-8", "replace")

    def tokenize(
        self, model: LoadedModel, text: bytes, *, add_special: bool, parse_special: bool
    ) -> list[int]:
        """The token ids of a text."""
        capacity = len(text) + 8
        while True:
            token_ids = (ctypes.c_int32 * capacity)()
            arguments = (model.vocab, text, len(text), token_ids, capacity)
            count: int = self._c.tokenize(*arguments, add_special, parse_special)
            if count >= 0:
                return list(token_ids[:count])
            capacity = -count  # a vocabulary may need more tokens than bytes

    def piece(self, model: LoadedModel, token_id: int) -> bytes:
        """The bytes that a token stands for."""
        size = _PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            count: int = self._c.to_piece(model.vocab, token_id, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def new_context(self, model: LoadedModel, options: ContextOptions) -> int:
        """Set up a context. 0 if the library refuses; `last_messages` then say why."""
        params = self._c.llama_context_default_params()
        params.n_ctx = options.num_cells
        params.n_batch, params.n_ubatch = options.max_batch, options.max_rows
        params.n_seq_max = options.max_sequences
        params.n_threads = params.n_threads_batch = options.num_threads
        params.type_k = KEY_TYPES[options.kv_cache_type]
        params.type_v = VALUE_TYPES[options.kv_cache_type]
        params.embeddings = options.embeddings
        if options.embeddings:
            params.pooling_type = _RANK if options.ranks else _NO_POOLING
        self._complete_context_params(params, model, options)
        return self._c.llama_init_from_model(model.address, params) or 0

    def free_context(self, context: int) -> None:
        """Free a context."""
        self._c.llama_free(context)

    def new_batch(self, arrays: BatchArrays) -> ctypes.Structure:
        """A batch over arrays; its `n_tokens` says how many of their entries count."""
        return self.batch(
            token=arrays.token or None,
            embd=arrays.vectors or None,
            pos=arrays.position,
            n_seq_id=arrays.num_ids,
            seq_id=arrays.ids,
            logits=arrays.wanted,
        )

    def decode(self, context: int, batch: ctypes.Structure) -> int:
        """Compute a batch. Returns 0, 1 when no place was found in the cache for all of it, and
        negative numbers for errors."""
        return int(self._c.llama_decode(context, batch))

    def logits(self, context: int, row: int) -> int:
        """Where the logits of a row lie, as 32-bit floats; 0 if they were not asked for."""
        return self._c.llama_get_logits_ith(context, row) or 0

    def embedding(self, context: int, row: int) -> int:
        """Where the vector of a row lies, as 32-bit floats; 0 if it was not asked for."""
        return self._c.llama_get_embeddings_ith(context, row) or 0

    def ranks(self, context: int, sequence_id: int) -> int:
        """Where the scores of a sequence lie, as 32-bit floats, in a context that ranks; 0 if the
        last batch had no row of the sequence."""
        return self._c.llama_get_embeddings_seq(context, sequence_id) or 0

    @abstractmethod
    def clear(self, context: int) -> None:
        """Take all cells away from all sequences."""

    @abstractmethod
    def remove(self, context: int, sequence_id: int, start: int, end: int) -> bool:
        """Take a sequence's cells at positions `start` to `end` away; -1 is without bound. False
        if the memory cannot be cut there."""

    @abstractmethod
    def copy(self, context: int, source: int, target: int, start: int, end: int) -> None:
        """Give one sequence the cells that another one has at positions `start` to `end`."""

    @abstractmethod
    def save(self, context: int, sequence_id: int) -> bytes | None:
        """A copy of the contents of all cells of a sequence; None if the library failed."""

    @abstractmethod
    def load(self, context: int, sequence_id: int, data: bytes) -> bool:
        """Fill new cells of a sequence from a copy. False if the library failed, or no place was
        found."""

    @abstractmethod
    def load_adapter(self, model: LoadedModel, path: str) -> int:
        """Load a LoRA adapter of the model. 0 if the library refuses; `last_messages` then say
        why. It is freed with the model, or before by `free_adapter`."""

    @abstractmethod
    def free_adapter(self, adapter: int) -> None:
        """Free an adapter that no context uses."""

    @abstractmethod
    def use_adapter(self, context: int, adapter: int, scale: float) -> bool:
        """Add an adapter, times `scale`, to the weights of all batches that follow; 0 adds none.
        False if the library failed."""

    @abstractmethod
    def _complete_model_params(self, params: Any, options: ModelOptions) -> None:
        """Set what only this family has among the parameters of a model."""

    @abstractmethod
    def _complete_context_params(
        self, params: Any, model: LoadedModel, options: ContextOptions
    ) -> None:
        """Set what this family has, or does, in its own way among the parameters of a context."""

    def _note_model(self, model: LoadedModel, path: str, file: GGUFFile | None) -> None:
        """Take note of a model whose weights have been loaded."""
        return

    @abstractmethod
    def _check_structures(self) -> None:
        """Raise LibraryUnusable unless the structures are laid out as declared."""

    def _note(self, level: int, text: bytes, _user_data: object) -> None:
        if level == LOG_LEVEL_ERROR:
            self._messages.append(text.decode(errors="replace").strip())


def filled_buffer(data: bytes) -> "ctypes.Array[ctypes.c_uint8]":
    """A copy of bytes in memory that a C function may read."""
    return (ctypes.c_uint8 * len(data)).from_buffer_copy(data)
