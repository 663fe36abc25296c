"""How likely a token was, from the model's own logits: before bias, penalties and temperature, as
OpenAI reports it."""

import numpy as np

from runtime.engines.llama_cpp.sampling.top_k import Floats, top_token_ids
from runtime.messages.request import TokenLogprobs


def token_logprobs(logits: Floats, token_id: int, num_top: int) -> TokenLogprobs:
    """The token's entry, with the `num_top` likeliest tokens. `logits` has one value for each
    token of the vocabulary."""
    highest = logits.max()
    with np.errstate(under="ignore"):
        total = np.exp(logits - highest).sum(dtype=np.float64)
    norm = float(highest) + float(np.log(total))
    rank = int(np.count_nonzero(logits > logits[token_id])) + 1
    top = top_token_ids(logits, num_top) if num_top else ()
    likeliest = [(int(other), float(logits[other]) - norm) for other in top]
    return TokenLogprobs(float(logits[token_id]) - norm, rank, likeliest)
