"""From the tensors of a source to those of the target, by the table of its architecture."""

import re

from convert.architectures.base import EXPERT, TOP, Architecture, Config
from convert.source.gguf import GGUFSource
from convert.tensors.source_tensor import SourceTensor
from convert.tensors.weights import Weight
from runtime.errors import ModelFileError

_BLOCK = re.compile(r"^blk\.(0|[1-9]\d{0,5})\.(.+)$")
_LAYER = re.compile(r"^model\.layers\.(\d+)\.")
_GROUPS = (
    (re.compile(r"\.self_attn\.[qkv]_proj\.weight$"), ".self_attn.qkv_proj"),
    (re.compile(r"\.mlp\.(gate|up)_proj\.weight$"), ".mlp.gate_up_proj"),
    (re.compile(r"(\.experts\.\d+)\.(gate|up)_proj\.weight$"), r"\1.gate_up_proj"),
    (re.compile(r"(\.experts\.\d+)\.w[13]\.weight$"), r"\1.w31"),
)
_NUM_EXPERTS = {"mixtral": "num_local_experts"}
"""The configuration's field for the number of experts; other classes use `num_experts`."""


def map_weights(source: GGUFSource, architecture: Architecture, config: Config) -> list[Weight]:
    """All tensors of the target, in the order of the layers.

    Raises ModelFileError for a tensor that the table does not know, that is missing, or whose
    shape is not what config.json says.
    """
    mapping = _Mapping(source, architecture, config)
    weights = [w for tensor in source.tensors.values() for w in mapping.weights(tensor)]
    mapping.check_complete()
    return sorted(weights, key=position_of)


class _Mapping:
    def __init__(self, source: GGUFSource, architecture: Architecture, config: Config) -> None:
        self._source = source
        self._architecture = architecture
        self._config = config
        self._shapes = shapes_of(config)

    def weights(self, tensor: SourceTensor) -> list[Weight]:
        """What a tensor of the source becomes: one weight, one for each expert, or nothing."""
        if tensor.name in self._architecture.in_config:
            return []
        if tensor.name in TOP:
            return [self._make(tensor, tensor.name, TOP[tensor.name])]
        block = _BLOCK.match(tensor.name)
        target = self._architecture.layer.get(block[2]) if block else None
        if block is None or target is None or int(block[1]) >= self._config["num_hidden_layers"]:
            raise self._fail(tensor.name, f"a {self._architecture.name} model has no such tensor")
        name = f"model.layers.{block[1]}.{target}"
        if EXPERT in target:
            return self._experts(tensor, name)
        return [self._make(tensor, block[2], name)]

    def check_complete(self) -> None:
        required = [f"{name}" for name in TOP if name != "output.weight"]
        for layer in range(self._config["num_hidden_layers"]):
            names = self._architecture.layer.keys() - self._architecture.optional
            required += [f"blk.{layer}.{name}" for name in sorted(names)]
        for name in required:
            self._source.tensor(name)

    def _experts(self, tensor: SourceTensor, name: str) -> list[Weight]:
        """Experts lie one after the other, so each expert is a range of the tensor's rows."""
        shape = self._shapes[kind_of(name)]
        count = int(self._config[_NUM_EXPERTS.get(self._config["model_type"], "num_experts")])
        expected = (count, *shape)
        if tensor.shape != expected:
            raise self._fail(tensor.name, f"its shape is {tensor.shape} and should be {expected}")
        names = [name.replace(EXPERT, str(expert)) for expert in range(count)]
        return [
            Weight(
                name=expert,
                source=tensor.name,
                shape=shape,
                linear=True,
                group=group_of(expert),
                first_row=number * shape[0],
            )
            for number, expert in enumerate(names)
        ]

    def _make(self, tensor: SourceTensor, kind: str, name: str) -> Weight:
        last = kind_of(name)
        expected = self._shapes[last]
        if tensor.shape != expected:
            raise self._fail(tensor.name, f"its shape is {tensor.shape} and should be {expected}")
        in_pairs = kind in self._architecture.in_pairs
        return Weight(
            name=name,
            source=tensor.name,
            shape=tensor.shape,
            linear=last.endswith("_proj.weight"),
            group=group_of(name),
            head_dim=self._config["head_dim"] if in_pairs else 0,
            shift=self._architecture.norm_shift if "norm" in last else 0.0,
        )

    def _fail(self, name: str, problem: str) -> ModelFileError:
        return ModelFileError(f"{self._source.header.path}: {name}: {problem}.")


def shapes_of(config: Config) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, by the last two parts of its name."""
    hidden, ffn = config["hidden_size"], config["intermediate_size"]
    head_dim = config["head_dim"]
    q, kv = config["num_attention_heads"] * head_dim, config["num_key_value_heads"] * head_dim
    embedding = (config["vocab_size"], hidden)
    norms = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm")
    return {
        "embed_tokens.weight": embedding,
        "lm_head.weight": embedding,
        "q_proj.weight": (q, hidden),
        "k_proj.weight": (kv, hidden),
        "v_proj.weight": (kv, hidden),
        "o_proj.weight": (hidden, q),
        "qkv_proj.weight": (q + 2 * kv, hidden),
        "q_proj.bias": (q,),
        "k_proj.bias": (kv,),
        "v_proj.bias": (kv,),
        "o_proj.bias": (hidden,),
        "gate_proj.weight": (ffn, hidden),
        "up_proj.weight": (ffn, hidden),
        "gate_up_proj.weight": (2 * ffn, hidden),
        "down_proj.weight": (hidden, ffn),
        "q_norm.weight": (head_dim,),
        "k_norm.weight": (head_dim,),
        "norm.weight": (hidden,),
        "post_feedforward_layernorm.weight": (hidden,),
        **{f"{norm}.weight": (hidden,) for norm in norms},
        **_expert_shapes(config),
    }


def _expert_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The shapes of one expert's tensors and of the router."""
    hidden = config["hidden_size"]
    width = config.get("moe_intermediate_size", config["intermediate_size"])
    count = config.get(_NUM_EXPERTS.get(config["model_type"], "num_experts"), 0)
    into, back = (width, hidden), (hidden, width)
    names = {"gate_proj": into, "up_proj": into, "down_proj": back, "w1": into, "w3": into}
    shapes: dict[str, tuple[int, ...]] = {
        f"experts.{name}.weight": shape for name, shape in (names | {"w2": back}).items()
    }
    return shapes | {"gate.weight": (count, hidden)}


def kind_of(name: str) -> str:
    """The last two parts of a name; for an expert's weight "experts." and these."""
    last = ".".join(name.split(".")[-2:])
    return f"experts.{last}" if ".experts." in name else last


def group_of(name: str) -> str:
    """The name of the fused weight that the loader makes; "" for a weight that is not fused."""
    for pattern, group in _GROUPS:
        if pattern.search(name):
            return pattern.sub(group, name)
    return ""


def position_of(weight: Weight) -> tuple[int, str]:
    """Embedding, layers in order, then the rest."""
    if weight.name.startswith("model.embed_tokens"):
        return -1, ""
    layer = _LAYER.match(weight.name)
    return (int(layer[1]) if layer else 1 << 30), weight.name
