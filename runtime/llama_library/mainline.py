"""llama.cpp itself, as llama-cpp-python 0.3.36 builds it."""

import ctypes
import os
from typing import Any

from runtime.llama_library.functions import (
    BOOL,
    INT,
    POINTER,
    SEQUENCE_COPY,
    SEQUENCE_REMOVE,
    SIZE,
    TEXT,
    TO_PIECE,
    TOKENIZE,
    Function,
    ProgressCallback,
    check_defaults,
)
from runtime.llama_library.library import LlamaLibrary, filled_buffer
from runtime.llama_library.values import (
    ContextOptions,
    LoadedModel,
    ModelOptions,
    ModelShape,
    Traits,
)

_FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}


class _ModelParams(ctypes.Structure):
    _fields_ = (
        ("devices", POINTER),
        ("tensor_buft_overrides", POINTER),
        ("n_gpu_layers", INT),
        ("split_mode", INT),
        ("load_mode", INT),
        ("lazy_mode", INT),
        ("main_gpu", INT),
        ("tensor_split", POINTER),
        ("progress_callback", ProgressCallback),
        ("progress_callback_user_data", POINTER),
        ("kv_overrides", POINTER),
        ("vocab_only", BOOL),
        ("check_tensors", BOOL),
        ("use_extra_bufts", BOOL),
        ("no_host", BOOL),
        ("no_alloc", BOOL),
        ("load_mtp", BOOL),
    )


class _ContextParams(ctypes.Structure):
    _fields_ = (
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("n_rs_seq", ctypes.c_uint32),
        ("n_outputs_max", ctypes.c_uint32),
        ("n_outputs_max_per_seq", ctypes.c_uint32),
        ("n_threads", INT),
        ("n_threads_batch", INT),
        ("ctx_type", INT),
        ("rope_scaling_type", INT),
        ("pooling_type", INT),
        ("attention_type", INT),
        ("flash_attn_type", INT),
        ("rope_freq_base", ctypes.c_float),
        ("rope_freq_scale", ctypes.c_float),
        ("yarn_ext_factor", ctypes.c_float),
        ("yarn_attn_factor", ctypes.c_float),
        ("yarn_beta_fast", ctypes.c_float),
        ("yarn_beta_slow", ctypes.c_float),
        ("yarn_orig_ctx", ctypes.c_uint32),
        ("defrag_thold", ctypes.c_float),
        ("cb_eval", POINTER),
        ("cb_eval_user_data", POINTER),
        ("type_k", INT),
        ("type_v", INT),
        ("abort_callback", POINTER),
        ("abort_callback_data", POINTER),
        ("embeddings", BOOL),
        ("offload_kqv", BOOL),
        ("no_perf", BOOL),
        ("op_offload", BOOL),
        ("swa_full", BOOL),
        ("kv_unified", BOOL),
        ("samplers", POINTER),
        ("n_samplers", SIZE),
        ("ctx_other", POINTER),
    )


class _Batch(ctypes.Structure):
    _fields_ = (
        ("n_tokens", INT),
        ("token", POINTER),
        ("embd", POINTER),
        ("pos", POINTER),
        ("n_seq_id", POINTER),
        ("seq_id", POINTER),
        ("logits", POINTER),
    )


_FUNCTIONS = {
    "llama_model_default_params": Function(_ModelParams, ()),
    "llama_context_default_params": Function(_ContextParams, ()),
    "llama_model_load_from_file": Function(POINTER, (ctypes.c_char_p, _ModelParams)),
    "llama_model_free": Function(None, (POINTER,)),
    "llama_init_from_model": Function(POINTER, (POINTER, _ContextParams)),
    "llama_model_n_ctx_train": Function(INT, (POINTER,)),
    "llama_model_n_layer": Function(INT, (POINTER,)),
    "llama_model_n_head": Function(INT, (POINTER,)),
    "llama_model_n_head_kv": Function(INT, (POINTER,)),
    "llama_model_n_embd_out": Function(INT, (POINTER,)),
    "llama_model_n_swa": Function(INT, (POINTER,)),
    "llama_model_n_cls_out": Function(ctypes.c_uint32, (POINTER,)),
    "llama_vocab_get_attr": Function(ctypes.c_int, (POINTER, INT)),
    "llama_vocab_fim_pre": Function(INT, (POINTER,)),
    "llama_vocab_fim_suf": Function(INT, (POINTER,)),
    "llama_vocab_fim_mid": Function(INT, (POINTER,)),
    "llama_tokenize": TOKENIZE,
    "llama_token_to_piece": TO_PIECE,
    "llama_get_memory": Function(POINTER, (POINTER,)),
    "llama_memory_clear": Function(None, (POINTER, BOOL)),
    "llama_memory_seq_rm": SEQUENCE_REMOVE,
    "llama_memory_seq_cp": SEQUENCE_COPY,
    "llama_state_seq_get_size": Function(SIZE, (POINTER, INT)),
    "llama_state_seq_get_data": Function(SIZE, (POINTER, POINTER, SIZE, INT)),
    "llama_state_seq_set_data": Function(SIZE, (POINTER, POINTER, SIZE, INT)),
    "llama_decode": Function(INT, (POINTER, _Batch)),
    "llama_adapter_lora_init": Function(POINTER, (POINTER, TEXT)),
    "llama_adapter_lora_free": Function(None, (POINTER,)),
    "llama_set_adapters_lora": Function(INT, (POINTER, POINTER, SIZE, POINTER)),
}

_ALIASES = {"tokenize": "llama_tokenize", "to_piece": "llama_token_to_piece"}


class MainlineLibrary(LlamaLibrary):
    """llama.cpp's own library."""

    family = "llama.cpp"
    traits = Traits(
        can_repack=False,
        has_extra_bufts=True,
        drops_cells=True,
        can_choose_attention=True,
        can_fill_gpus=True,
        has_flash_attention=True,
        has_float32_cache=True,
        can_rank=True,
    )
    functions = _FUNCTIONS
    aliases = _ALIASES
    batch = _Batch

    def free_model(self, model: LoadedModel) -> None:
        self._c.llama_model_free(model.address)

    def shape(self, model: LoadedModel) -> ModelShape:
        c, address = self._c, model.address
        num_heads, width = c.llama_model_n_head(address), c.llama_model_n_embd(address)
        return ModelShape(
            num_vocab=self.num_vocab(model),
            num_layers=c.llama_model_n_layer(address),
            num_heads=num_heads,
            num_kv_heads=c.llama_model_n_head_kv(address),
            head_size=self._head_size(model) or width // max(num_heads, 1),
            width=width,
            embedding_width=c.llama_model_n_embd_out(address),
            context=c.llama_model_n_ctx_train(address),
            window=c.llama_model_n_swa(address),
            num_bytes=c.llama_model_size(address),
            has_state=c.llama_model_is_recurrent(address) or c.llama_model_is_hybrid(address),
            num_labels=c.llama_model_n_cls_out(address),
        )

    def fim_tokens(self, model: LoadedModel) -> tuple[int, int, int]:
        c, vocab = self._c, model.vocab
        return (
            c.llama_vocab_fim_pre(vocab),
            c.llama_vocab_fim_suf(vocab),
            c.llama_vocab_fim_mid(vocab),
        )

    def token_attributes(self, model: LoadedModel, token_id: int) -> int:
        return int(self._c.llama_vocab_get_attr(model.vocab, token_id))

    def clear(self, context: int) -> None:
        self._c.llama_memory_clear(self._c.llama_get_memory(context), True)

    def remove(self, context: int, sequence_id: int, start: int, end: int) -> bool:
        memory = self._c.llama_get_memory(context)  # an encoder has none
        return not memory or self._c.llama_memory_seq_rm(memory, sequence_id, start, end)

    def copy(self, context: int, source: int, target: int, start: int, end: int) -> None:
        memory = self._c.llama_get_memory(context)
        self._c.llama_memory_seq_cp(memory, source, target, start, end)

    def save(self, context: int, sequence_id: int) -> bytes | None:
        size = self._c.llama_state_seq_get_size(context, sequence_id)
        buffer = (ctypes.c_uint8 * size)()
        written = self._c.llama_state_seq_get_data(context, buffer, size, sequence_id)
        return bytes(buffer) if written == size else None

    def load(self, context: int, sequence_id: int, data: bytes) -> bool:
        size, buffer = len(data), filled_buffer(data)
        read = self._c.llama_state_seq_set_data(context, buffer, size, sequence_id)
        return bool(read == size)

    def load_adapter(self, model: LoadedModel, path: str) -> int:
        self._messages.clear()
        return self._c.llama_adapter_lora_init(model.address, os.fsencode(path)) or 0

    def free_adapter(self, adapter: int) -> None:
        self._c.llama_adapter_lora_free(adapter)

    def use_adapter(self, context: int, adapter: int, scale: float) -> bool:
        adapters, scales = (ctypes.c_void_p * 1)(adapter), (ctypes.c_float * 1)(scale)
        number = 1 if adapter else 0
        return bool(self._c.llama_set_adapters_lora(context, adapters, number, scales) == 0)

    def _complete_model_params(self, params: Any, options: ModelOptions) -> None:
        params.use_extra_bufts = options.use_extra_bufts

    def _complete_context_params(
        self, params: Any, model: LoadedModel, options: ContextOptions
    ) -> None:
        params.flash_attn_type = _FLASH_ATTENTION[options.flash_attention]
        params.swa_full = params.kv_unified = params.no_perf = True

    def _head_size(self, model: LoadedModel) -> int:
        architecture = self.metadata(model, "general.architecture")
        return int(self.metadata(model, f"{architecture}.attention.key_length") or 0)

    def _check_structures(self) -> None:
        model = {"n_gpu_layers": -1, "split_mode": 1, "vocab_only": False, "use_extra_bufts": True}
        check_defaults("model parameters", self._c.llama_model_default_params(), model)
        context = {
            "n_ctx": 512,
            "n_batch": 2048,
            "n_ubatch": 512,
            "flash_attn_type": -1,
            "yarn_ext_factor": -1.0,
            "type_k": 1,
            "type_v": 1,
            "offload_kqv": True,
            "swa_full": True,
            "kv_unified": False,
            "n_samplers": 0,
        }
        check_defaults("context parameters", self._c.llama_context_default_params(), context)
