"""A bare batch loop over a llama.cpp library: the floor that the engine is measured against.

A child process: one JSON line `{"prompts": [[ids…]…], "num_tokens": N}` in, one line with the
seconds out. Greedy by numpy's argmax; all prompts in the first batch, then one token each.
"""

import json
import sys
import time
from collections.abc import Iterator

import numpy as np

from runtime.llama_library.installed import open_library
from runtime.llama_library.results import floats_at
from runtime.llama_library.token_batch import TokenBatch
from runtime.llama_library.values import ContextOptions, ModelOptions
from runtime.models.gguf import read_gguf

NUM_SLOTS = 16
MAX_BATCH = 512


class BareLoop:
    """One context of the library of that name, prompts in, seconds out. Nothing is freed: the
    process is thrown away. `repacks` is whether weights are arranged for the processor, each
    library in its own way."""

    def __init__(self, model_path: str, *, library: str, num_threads: int, repacks: bool) -> None:
        self._library = open_library(library)
        options = ModelOptions(
            use_extra_bufts=repacks and self._library.traits.has_extra_bufts,
            repack_tensors=repacks and self._library.traits.can_repack,
        )
        model = self._library.load_model(model_path, options, file=read_gguf(model_path))
        assert model, f"{library} does not load {model_path}"
        self._num_vocab = self._library.num_vocab(model)
        context = ContextOptions(
            num_cells=32_768,
            max_batch=MAX_BATCH,
            max_rows=128,
            max_sequences=NUM_SLOTS,
            num_threads=num_threads,
        )
        self._context = self._library.new_context(model, context)
        assert self._context, f"{library} makes no context"
        self._batch = TokenBatch(self._library, max_tokens=MAX_BATCH, max_ids=1)

    def run(self, prompts: list[list[int]], num_tokens: int) -> float:
        """Generate `num_tokens` for every prompt; the seconds that it took."""
        started = time.perf_counter()
        for _ in self._steps(prompts, num_tokens):
            pass
        return time.perf_counter() - started

    def trace(
        self, prompts: list[list[int]], num_tokens: int
    ) -> tuple[list[list[int]], list[list[np.ndarray]]]:
        """The greedy tokens of every prompt, and copies of the logits that they were taken from."""
        tokens: list[list[int]] = [[] for _ in prompts]
        logits: list[list[np.ndarray]] = [[] for _ in prompts]
        for rows in self._steps(prompts, num_tokens):
            for slot, row in enumerate(rows):
                tokens[slot].append(int(row.argmax()))
                logits[slot].append(row.copy())
        return tokens, logits

    def _steps(self, prompts: list[list[int]], num_tokens: int) -> Iterator[list[np.ndarray]]:
        self._library.clear(self._context)
        rows = self._decode([(slot, 0, prompt) for slot, prompt in enumerate(prompts)])
        for step in range(num_tokens - 1):
            yield rows
            tokens = [int(row.argmax()) for row in rows]
            rows = self._decode(
                [(slot, len(prompts[slot]) + step, [token]) for slot, token in enumerate(tokens)]
            )
        yield rows

    def _decode(self, pieces: list[tuple[int, int, list[int]]]) -> list[np.ndarray]:
        batch, rows = self._batch, []
        batch.clear()
        for slot, start, tokens in pieces:
            batch.put(tokens, start, (slot,), wanted=False)
            rows.append(batch.num_tokens - 1)
            batch.want(rows[-1])
        if self._library.decode(self._context, batch.data) != 0:
            raise RuntimeError("llama_decode failed")
        return [self._logits(row) for row in rows]

    def _logits(self, row: int) -> np.ndarray:
        return floats_at(self._library.logits(self._context, row), self._num_vocab)


def main() -> None:
    model_path, library, num_threads, repacks = sys.argv[1:]
    loop = BareLoop(
        model_path, library=library, num_threads=int(num_threads), repacks=repacks == "1"
    )
    loop.run([[1] * 32], 2)
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(loop.run(job["prompts"], job["num_tokens"]), flush=True)


if __name__ == "__main__":
    main()
