"""The shape of a model: its numbers of weights, and what its KV cache keeps of a token.

It is read from a Hugging Face `config.json` or a GGUF header. Only architectures whose weights are
counted exactly are accepted; for any other one the planner would have to guess, so it refuses.
"""

from msgspec import Struct

from runtime.errors import SetupError

MAX_LAYERS = 10_000
"""Far above any real model; it bounds the work that a damaged file can cause."""


class ModelShape(Struct, frozen=True, kw_only=True):
    """Counts of weights, and sizes in elements or tokens.

    `linear_params` are the weights of attention and of feed-forward layers that work for every
    token; `expert_params` those of all experts, of which a token uses `num_experts_per_tok` of
    `num_experts`. `other_params` are norms, biases and routers. `lm_head_params` is 0 when the
    output uses the embedding's matrix.

    `kv_width` is the number of elements, keys and values together, that one layer keeps of one
    token. `windows` has the length of each layer's attention window in tokens; 0 is no window.
    `linear_inputs` are the input widths of the layers that are quantised. `has_sinks` says whether
    attention has a weight for nothing (gpt-oss).
    """

    name: str
    architecture: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    head_dim: int
    kv_width: int
    vocab_size: int
    max_model_len: int
    windows: tuple[int, ...]
    embedding_params: int
    lm_head_params: int
    linear_params: int
    other_params: int
    expert_params: int = 0
    num_experts: int = 0
    num_experts_per_tok: int = 0
    linear_inputs: tuple[int, ...] = ()
    has_linear_bias: bool = False
    has_sinks: bool = False

    @property
    def num_params(self) -> int:
        """All weights."""
        quantised = self.linear_params + self.expert_params
        return self.embedding_params + self.lm_head_params + quantised + self.other_params

    @property
    def output_params(self) -> int:
        """Number of weights in the matrix that gives the logits, its own or the embedding's."""
        return self.lm_head_params or self.embedding_params

    @property
    def num_active_params(self) -> float:
        """Number of weights that one token is multiplied with."""
        return self.linear_params + self.output_params + self.expert_params * self.expert_share(1)

    def expert_share(self, num_tokens: int) -> float:
        """The expected share of experts that a batch of this many tokens needs, 0 to 1.

        Each token draws its experts independently and evenly: 1 - (1 - k/n)^b. Real routers are
        less even, and need a smaller share.
        """
        if not self.num_experts:
            return 0.0
        return 1 - (1 - self.num_experts_per_tok / self.num_experts) ** num_tokens

    def attended(self, num_tokens: int) -> int:
        """Number of tokens that attention reads for one token, in all layers together, when the
        context has `num_tokens`."""
        return sum(min(num_tokens, window or num_tokens) for window in self.windows)


def cannot_plan(name: str, reason: str) -> SetupError:
    """An error for a model that the planner cannot count, for the caller to raise."""
    return SetupError(f"--model: {name} cannot be planned: {reason}")


def checked(shape: ModelShape) -> ModelShape:
    """Returns the shape. Raises SetupError if its attention is impossible: heads without a size,
    negative windows."""
    if shape.kv_width < 1 or shape.head_dim < 1:
        raise cannot_plan(shape.name, f"its heads would be {shape.head_dim} numbers wide")
    if any(window < 0 for window in shape.windows):
        raise cannot_plan(shape.name, "its sliding window is less than 0 tokens")
    return shape
