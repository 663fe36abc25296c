"""ik_llama.cpp, as ik-llama-cpp-python 0.1.5 builds it: an older interface, faster kernels."""

import ctypes
import os
from typing import Any

from runtime.errors import EngineError
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
from runtime.models.adapters.lora_file import adapted_tensors
from runtime.models.gguf import GGUFFile, TensorInfo, read_whole_gguf

_WHOLE_STATE = 0
"""No LLAMA_STATE_SEQ_FLAGS_*."""

_UNEVEN_KINDS = frozenset(("Q4_1", "Q5_1"))
_EVEN_ROW = 128
_MAX_UNEVEN_ROWS = 31
"""From 32 rows of a batch on, weights of these types are multiplied wrongly, without an error, when
their own rows are no multiple of 128 values long. Fewer rows go through other code."""

_MIN_ADAPTER_RANK = 8
"""Adapters of rank 4 are multiplied wrongly, without an error. Other small ranks are rare."""

_ADAPTED_ARCHITECTURES = frozenset(("llama", "qwen2", "qwen3"))
_ADAPTED_WEIGHTS = tuple(
    f"{name}.weight"
    for name in (
        *("attn_q", "attn_k", "attn_v", "attn_output"),
        *("ffn_gate", "ffn_up", "ffn_down", "output"),
    )
)
"""Where adapters have been compared with merged weights. Several of its kernels join
multiplications into one and leave adapters out, without an error."""

_MAX_ROUNDS = 64
"""How often the cache is asked to move its cells together. It moves at most some hundred runs of
cells at once."""


class _ModelParams(ctypes.Structure):
    _fields_ = (
        ("devices", ctypes.c_char_p),
        ("n_gpu_layers", INT),
        ("mla", INT),
        ("split_mode", INT),
        ("main_gpu", INT),
        ("max_gpu", INT),
        ("ncmoe", INT),
        ("type_k", INT),
        ("type_v", INT),
        ("max_ctx_size", ctypes.c_uint32),
        ("n_seq_max", INT),
        ("n_ubatch", INT),
        ("amb", INT),
        ("fit_margin", INT),
        ("fit", BOOL),
        ("worst_graph_tokens", INT),
        ("type_k_first", INT),
        ("type_k_last", INT),
        ("type_v_first", INT),
        ("type_v_last", INT),
        ("n_k_first", INT),
        ("n_k_last", INT),
        ("n_v_first", INT),
        ("n_v_last", INT),
        ("tensor_split", POINTER),
        ("rpc_servers", ctypes.c_char_p),
        ("progress_callback", ProgressCallback),
        ("progress_callback_user_data", POINTER),
        ("kv_overrides", POINTER),
        ("tensor_buft_overrides", POINTER),
        ("vocab_only", BOOL),
        ("use_mmap", BOOL),
        ("use_mlock", BOOL),
        ("check_tensors", BOOL),
        ("repack_tensors", BOOL),
        ("use_thp", BOOL),
        ("validate_quants", BOOL),
        ("merge_qkv", BOOL),
        ("merge_up_gate_exps", BOOL),
        ("mtp", BOOL),
        ("dry_run", BOOL),
        ("flash_attn", BOOL),
    )


class _ContextParams(ctypes.Structure):
    _fields_ = (
        ("seed", ctypes.c_uint32),
        ("n_ctx", ctypes.c_uint32),
        ("n_batch", ctypes.c_uint32),
        ("n_ubatch", ctypes.c_uint32),
        ("n_seq_max", ctypes.c_uint32),
        ("n_threads", ctypes.c_uint32),
        ("n_threads_batch", ctypes.c_uint32),
        ("max_extra_alloc", INT),
        ("worst_case_tokens", INT),
        ("rope_scaling_type", INT),
        ("pooling_type", INT),
        ("attention_type", INT),
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
        ("type_reduce", INT),
        ("type_k_first", INT),
        ("type_k_last", INT),
        ("type_v_first", INT),
        ("type_v_last", INT),
        ("n_k_first", INT),
        ("n_k_last", INT),
        ("n_v_first", INT),
        ("n_v_last", INT),
        ("logits_all", BOOL),
        ("embeddings", BOOL),
        ("offload_kqv", BOOL),
        ("flash_attn", BOOL),
        ("mla_attn", INT),
        ("attn_max_batch", INT),
        ("fused_moe_up_gate", BOOL),
        ("grouped_expert_routing", BOOL),
        ("fused_up_gate", BOOL),
        ("fused_mmad", BOOL),
        ("rope_cache", BOOL),
        ("graph_reuse", BOOL),
        ("min_experts", INT),
        ("thresh_experts", ctypes.c_float),
        ("only_active_experts", BOOL),
        ("k_cache_hadamard", BOOL),
        ("v_cache_hadamard", BOOL),
        ("split_mode_graph_scheduling", BOOL),
        ("scheduler_async", BOOL),
        ("mtp", BOOL),
        ("mtp_op_type", INT),
        ("abort_callback", POINTER),
        ("abort_callback_data", POINTER),
        ("offload_policy", POINTER),
        ("cuda_params", POINTER),
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
        ("all_pos_0", INT),
        ("all_pos_1", INT),
        ("all_seq_id", INT),
    )


class _CacheView(ctypes.Structure):
    _fields_ = (
        ("n_cells", INT),
        ("n_seq_max", INT),
        ("token_count", INT),
        ("used_cells", INT),
        ("max_contiguous", INT),
        ("max_contiguous_idx", INT),
        ("cells", POINTER),
        ("cells_sequences", POINTER),
    )


_FUNCTIONS = {
    "llama_model_default_params": Function(_ModelParams, ()),
    "llama_context_default_params": Function(_ContextParams, ()),
    "llama_model_load_from_file": Function(POINTER, (ctypes.c_char_p, _ModelParams)),
    "llama_free_model": Function(None, (POINTER,)),
    "llama_init_from_model": Function(POINTER, (POINTER, _ContextParams)),
    "llama_n_ctx_train": Function(INT, (POINTER,)),
    "llama_n_layer": Function(INT, (POINTER,)),
    "llama_token_get_attr": Function(ctypes.c_int, (POINTER, INT)),
    "llama_token_prefix": Function(INT, (POINTER,)),
    "llama_token_suffix": Function(INT, (POINTER,)),
    "llama_token_middle": Function(INT, (POINTER,)),
    "llama_vocab_tokenize": TOKENIZE,
    "llama_token_to_piece_vocab": TO_PIECE,
    "llama_kv_cache_clear": Function(None, (POINTER,)),
    "llama_kv_cache_seq_rm": SEQUENCE_REMOVE,
    "llama_kv_cache_seq_cp": SEQUENCE_COPY,
    "llama_kv_cache_view_init": Function(_CacheView, (POINTER, INT)),
    "llama_kv_cache_view_update": Function(None, (POINTER, ctypes.POINTER(_CacheView))),
    "llama_kv_cache_view_free": Function(None, (ctypes.POINTER(_CacheView),)),
    "llama_kv_cache_defrag": Function(None, (POINTER,)),
    "llama_kv_cache_update": Function(INT, (POINTER,)),
    "llama_state_seq_get_size": Function(SIZE, (POINTER, INT, ctypes.c_uint32)),
    "llama_state_seq_get_data": Function(SIZE, (POINTER, POINTER, SIZE, INT, ctypes.c_uint32)),
    "llama_state_seq_set_data": Function(SIZE, (POINTER, POINTER, SIZE, INT, ctypes.c_uint32)),
    "llama_decode": Function(INT, (POINTER, _Batch)),
    "llama_lora_adapter_init": Function(POINTER, (POINTER, TEXT)),
    "llama_lora_adapter_free": Function(None, (POINTER,)),
    "llama_lora_adapter_set": Function(INT, (POINTER, POINTER, ctypes.c_float)),
    "llama_lora_adapter_clear": Function(None, (POINTER,)),
}

_ALIASES = {"tokenize": "llama_vocab_tokenize", "to_piece": "llama_token_to_piece_vocab"}


class IkLibrary(LlamaLibrary):
    """The library of ik_llama.cpp. Sliding windows are masks over a whole cache.

    Its cache must have no holes when it computes: it looks for the last cell in use at a few places
    only, and leaves out those behind a hole, which gives wrong logits without an error. It also
    finds room for a batch only where free cells lie next to each other. So cells are moved
    together before the first batch after some were freed.

    Its flash attention ends the process when a row has nothing to look at in a part of the cache,
    as is so wherever several sequences share it. Without it values are kept in 16 bits.

    An encoder's attention is wrong, without an error, in a batch of four rows.

    It computes the graph of the step before again when only the tokens differ, also when the
    adapter does, and joins the multiplications of a feed-forward layer without their adapters.
    Contexts that use adapters do neither.

    Batches are computed in parts of 31 rows where weights would be multiplied wrongly in larger
    ones.
    """

    family = "ik_llama.cpp"
    traits = Traits(
        can_repack=True,
        has_extra_bufts=False,
        drops_cells=False,
        can_choose_attention=False,
        can_fill_gpus=False,
        has_flash_attention=False,
        has_float32_cache=False,
        can_rank=False,
        wrong_rows=4,
    )
    functions = _FUNCTIONS
    aliases = _ALIASES
    batch = _Batch

    def __init__(self, library: ctypes.CDLL, version: str) -> None:
        super().__init__(library, version)
        self._loose: set[int] = set()  # contexts whose cache may have holes
        self._uneven: set[int] = set()  # models that are computed in small parts

    def free_context(self, context: int) -> None:
        self._loose.discard(context)
        super().free_context(context)

    def objection(self, file: GGUFFile) -> str:
        architecture = file.text("general.architecture")
        reads_at_once = not file.flag(f"{architecture}.attention.causal", True)
        if reads_at_once and (tensor := _uneven_tensor(file)):
            return f"multiplies weights like {tensor.name} ({tensor.type}) wrongly in an encoder"
        return ""

    def adapter_objection(self, file: GGUFFile) -> str:
        if file.text("general.architecture") not in _ADAPTED_ARCHITECTURES:
            return "is not known to add adapters rightly to models of this architecture"
        for name, half in adapted_tensors(file).items():
            if not name.endswith(_ADAPTED_WEIGHTS):
                return f"is not known to add adapters rightly to {name}"
            if half.shape[0] < _MIN_ADAPTER_RANK:
                known = f"is not known to add adapters of a rank below {_MIN_ADAPTER_RANK} rightly"
                return f"{known}, and that of {name} is {half.shape[0]}"
        return ""

    def free_model(self, model: LoadedModel) -> None:
        self._uneven.discard(model.address)
        self._c.llama_free_model(model.address)

    def shape(self, model: LoadedModel) -> ModelShape:
        c, address = self._c, model.address
        width = c.llama_model_n_embd(address)
        num_heads = self._number(model, "attention.head_count")
        return ModelShape(
            num_vocab=self.num_vocab(model),
            num_layers=c.llama_n_layer(address),
            num_heads=num_heads,
            num_kv_heads=self._number(model, "attention.head_count_kv") or num_heads,
            head_size=self._number(model, "attention.key_length") or width // max(num_heads, 1),
            width=width,
            embedding_width=width,
            context=c.llama_n_ctx_train(address),
            window=0,
            num_bytes=c.llama_model_size(address),
            has_state=c.llama_model_is_recurrent(address) or c.llama_model_is_hybrid(address),
        )

    def fim_tokens(self, model: LoadedModel) -> tuple[int, int, int]:
        c, address = self._c, model.address
        return (
            c.llama_token_prefix(address),
            c.llama_token_suffix(address),
            c.llama_token_middle(address),
        )

    def token_attributes(self, model: LoadedModel, token_id: int) -> int:
        return int(self._c.llama_token_get_attr(model.address, token_id))

    def decode(self, context: int, batch: ctypes.Structure) -> int:
        if context in self._loose:
            self._close_holes(context)
        return super().decode(context, batch)

    def clear(self, context: int) -> None:
        self._c.llama_kv_cache_clear(context)
        self._loose.discard(context)

    def remove(self, context: int, sequence_id: int, start: int, end: int) -> bool:
        self._loose.add(context)
        return bool(self._c.llama_kv_cache_seq_rm(context, sequence_id, start, end))

    def copy(self, context: int, source: int, target: int, start: int, end: int) -> None:
        self._c.llama_kv_cache_seq_cp(context, source, target, start, end)

    def save(self, context: int, sequence_id: int) -> bytes | None:
        size = self._c.llama_state_seq_get_size(context, sequence_id, _WHOLE_STATE)
        buffer = (ctypes.c_uint8 * size)()
        arguments = (context, buffer, size, sequence_id, _WHOLE_STATE)
        return bytes(buffer) if self._c.llama_state_seq_get_data(*arguments) == size else None

    def load(self, context: int, sequence_id: int, data: bytes) -> bool:
        arguments = (context, filled_buffer(data), len(data), sequence_id, _WHOLE_STATE)
        if self._c.llama_state_seq_set_data(*arguments) == len(data):
            return True
        self._close_holes(context)
        return bool(self._c.llama_state_seq_set_data(*arguments) == len(data))

    def load_adapter(self, model: LoadedModel, path: str) -> int:
        self._messages.clear()
        return self._c.llama_lora_adapter_init(model.address, os.fsencode(path)) or 0

    def free_adapter(self, adapter: int) -> None:
        self._c.llama_lora_adapter_free(adapter)

    def use_adapter(self, context: int, adapter: int, scale: float) -> bool:
        self._c.llama_lora_adapter_clear(context)
        return not adapter or bool(self._c.llama_lora_adapter_set(context, adapter, scale) == 0)

    def _close_holes(self, context: int) -> None:
        """Move all cells in use to the front. Raises EngineError if that does not come to an
        end."""
        view = self._c.llama_kv_cache_view_init(context, 1)
        try:
            for _ in range(_MAX_ROUNDS):
                self._c.llama_kv_cache_view_update(context, view)
                num_free = view.n_cells - view.used_cells
                if view.max_contiguous == num_free and view.max_contiguous_idx in (
                    -1,
                    view.used_cells,
                ):
                    self._loose.discard(context)
                    return
                self._c.llama_kv_cache_defrag(context)
                self._c.llama_kv_cache_update(context)
        finally:
            self._c.llama_kv_cache_view_free(view)
        raise EngineError("ik_llama.cpp did not close the holes in its KV cache.")

    def _complete_model_params(self, params: Any, options: ModelOptions) -> None:
        params.repack_tensors = options.repack_tensors
        params.use_mmap = not options.repack_tensors  # a mapped file cannot be rearranged

    def _complete_context_params(
        self, params: Any, model: LoadedModel, options: ContextOptions
    ) -> None:
        params.flash_attn = options.flash_attention == "on"
        if options.adapts:
            params.graph_reuse = params.fused_up_gate = params.fused_moe_up_gate = False
        if model.address in self._uneven:
            params.n_ubatch = min(params.n_ubatch, _MAX_UNEVEN_ROWS)

    def _note_model(self, model: LoadedModel, path: str, file: GGUFFile | None) -> None:
        if _uneven_tensor(file or read_whole_gguf(path)):
            self._uneven.add(model.address)

    def _number(self, model: LoadedModel, key: str) -> int:
        """A number of the architecture's own; 0 if it is absent or a list for each layer."""
        architecture = self.metadata(model, "general.architecture")
        text = self.metadata(model, f"{architecture}.{key}")
        return int(text) if text.isdecimal() else 0

    def _check_structures(self) -> None:
        model = {
            "n_ubatch": 512,
            "type_v_last": 1,
            "n_v_last": -1,
            "vocab_only": False,
            "use_mmap": True,
            "repack_tensors": False,
            "flash_attn": True,
        }
        check_defaults("model parameters", self._c.llama_model_default_params(), model)
        context = {
            "n_ctx": 512,
            "n_batch": 2048,
            "n_ubatch": 512,
            "n_seq_max": 1,
            "yarn_ext_factor": -1.0,
            "type_k": 1,
            "n_v_last": -1,
            "embeddings": False,
            "flash_attn": True,
            "mla_attn": 3,
            "graph_reuse": True,
            "min_experts": -1,
            "abort_callback": None,
        }
        check_defaults("context parameters", self._c.llama_context_default_params(), context)


def _uneven_tensor(file: GGUFFile) -> TensorInfo | None:
    """The first of the weights that are multiplied wrongly in large batches."""
    found = (
        tensor
        for tensor in file.tensors
        if tensor.type in _UNEVEN_KINDS and tensor.shape[0] % _EVEN_ROW
    )
    return next(found, None)
