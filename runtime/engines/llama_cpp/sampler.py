"""Choosing the next token: llama.cpp's sampler chain, one for each sequence, with its own seed."""

import ctypes
from typing import Protocol

import llama_cpp
import numpy as np
import numpy.typing as npt

from runtime.request import SamplingParams


class Sampler(Protocol):
    """Samples from the logits of one row of the batch just decoded."""

    def sample(self, row: int) -> int: ...

    def accept(self, token_ids: list[int]) -> None:
        """Count tokens as generated, as a resumed request brings them along."""
        ...

    def close(self) -> None: ...


class GreedySampler:
    """The most likely token; the lowest id among equals."""

    def __init__(self, context: ctypes.c_void_p, num_vocab: int) -> None:
        self._context = context
        self._num_vocab = num_vocab

    def sample(self, row: int) -> int:
        return int(self.logits(row).argmax())

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """A view into llama.cpp's memory, of `num_vocab` values; valid until the next step."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        assert pointer, "no logits were asked for in this row: this is a bug"
        return np.ctypeslib.as_array(pointer, shape=(self._num_vocab,))

    def accept(self, token_ids: list[int]) -> None:
        pass

    def close(self) -> None:
        pass


class ChainSampler:
    """Penalties, temperature, top-k, top-p, min-p, then the draw: the order of vLLM.

    Only what changes the outcome is in the chain. Penalties count generated tokens alone, all of
    them, which is OpenAI's definition; llama.cpp's repetition penalty over the prompt is not used.
    """

    def __init__(
        self, context: ctypes.c_void_p, num_vocab: int, params: SamplingParams, max_model_len: int
    ) -> None:
        self._context = context
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        for link in _links(params, num_vocab, max_model_len):
            llama_cpp.llama_sampler_chain_add(chain, link)
        self._chain = chain

    def sample(self, row: int) -> int:
        return int(llama_cpp.llama_sampler_sample(self._chain, self._context, row))

    def accept(self, token_ids: list[int]) -> None:
        for token_id in token_ids:
            llama_cpp.llama_sampler_accept(self._chain, token_id)

    def close(self) -> None:
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None


def create_sampler(
    context: ctypes.c_void_p, num_vocab: int, params: SamplingParams, max_model_len: int
) -> Sampler:
    """The cheapest sampler that does what `params` say."""
    if params.temperature == 0 and not params.presence_penalty and not params.frequency_penalty:
        return GreedySampler(context, num_vocab)
    return ChainSampler(context, num_vocab, params, max_model_len)


def _links(params: SamplingParams, num_vocab: int, max_model_len: int) -> list[ctypes.c_void_p]:
    links = []
    if params.presence_penalty or params.frequency_penalty:
        no_repetition_penalty = 1.0
        links.append(
            llama_cpp.llama_sampler_init_penalties(
                num_vocab,
                min(params.max_tokens, max_model_len),
                no_repetition_penalty,
                params.frequency_penalty,
                params.presence_penalty,
            )
        )
    if params.temperature == 0:
        return [*links, llama_cpp.llama_sampler_init_greedy()]
    links.append(llama_cpp.llama_sampler_init_temp(params.temperature))
    if params.top_k > 0:
        links.append(llama_cpp.llama_sampler_init_top_k(params.top_k))
    if params.top_p < 1:
        links.append(llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p > 0:
        links.append(llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
    return [*links, llama_cpp.llama_sampler_init_dist(_seed32(params.seed))]


def _seed32(seed: int) -> int:
    """OpenAI's 64-bit seed for a 32-bit generator. llama.cpp takes the largest value for "choose
    one at random", which would make that seed differ from run to run."""
    return int(((seed ^ (seed >> 32)) & 0xFFFFFFFF) % llama_cpp.LLAMA_DEFAULT_SEED)
