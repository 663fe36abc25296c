"""A bare llama.cpp batch loop: the floor that the engine is measured against.

A child process: one JSON line `{"prompts": [[ids…]…], "num_tokens": N}` in, one line with the
seconds out. Greedy by numpy's argmax; all prompts in the first batch, then one token each.
"""

import json
import sys
import time
from collections.abc import Iterator

import llama_cpp
import numpy as np


@llama_cpp.llama_log_callback
def _silent(_level: int, _text: bytes, _user_data: object) -> None:
    pass


class BareLoop:
    """One context, prompts in, seconds out. Nothing is freed: the process is thrown away."""

    def __init__(self, model_path: str, *, num_threads: int, extra_bufts: bool) -> None:
        llama_cpp.llama_log_set(_silent, None)
        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.use_extra_bufts = extra_bufts
        self._model = llama_cpp.llama_model_load_from_file(model_path.encode(), model_params)
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = 32_768, 512, 128
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.n_seq_max, params.kv_unified = 16, True
        params.n_threads = params.n_threads_batch = num_threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._num_vocab = llama_cpp.llama_vocab_n_tokens(
            llama_cpp.llama_model_get_vocab(self._model)
        )
        self._batch = llama_cpp.llama_batch_init(512, 0, 1)

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
        llama_cpp.llama_memory_clear(self._memory, False)
        rows = self._decode([(slot, 0, prompt) for slot, prompt in enumerate(prompts)])
        for step in range(num_tokens - 1):
            yield rows
            tokens = [int(row.argmax()) for row in rows]
            rows = self._decode(
                [(slot, len(prompts[slot]) + step, [token]) for slot, token in enumerate(tokens)]
            )
        yield rows

    def _decode(self, pieces: list[tuple[int, int, list[int]]]) -> list[np.ndarray]:
        batch, row, rows = self._batch, 0, []
        for slot, start, tokens in pieces:
            for offset, token in enumerate(tokens):
                batch.token[row], batch.pos[row] = token, start + offset
                batch.n_seq_id[row], batch.seq_id[row][0], batch.logits[row] = 1, slot, 0
                row += 1
            batch.logits[row - 1] = 1
            rows.append(row - 1)
        batch.n_tokens = row
        if llama_cpp.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode failed")
        return [self._logits(row) for row in rows]

    def _logits(self, row: int) -> np.ndarray:
        pointer = llama_cpp.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self._num_vocab,))


def main() -> None:
    model_path, num_threads, extra_bufts = sys.argv[1:]
    loop = BareLoop(model_path, num_threads=int(num_threads), extra_bufts=extra_bufts == "1")
    loop.run([[1] * 32], 2)
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        print(loop.run(job["prompts"], job["num_tokens"]), flush=True)


if __name__ == "__main__":
    main()
