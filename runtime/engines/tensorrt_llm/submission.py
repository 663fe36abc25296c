"""The submission of one request to the package, initial or resumed."""

from functools import cached_property

from runtime.messages.request import Request


class Submission:
    """A request on its way into the package, which knows prompts and no answers in progress.

    A request that goes on is submitted as its prompt with the answer so far. One whose answer is
    under a grammar cannot be: the package would begin the grammar anew. It is computed again from
    its prompt, and `replay` is what must come again before anything is new.
    """

    def __init__(self, request: Request, max_model_len: int) -> None:
        self.request = request
        is_guided = request.sampling.structured_output is not None
        self.replay = list(request.output_token_ids) if is_guided else []
        self.carried_token_ids = [] if is_guided else list(request.output_token_ids)
        self._max_model_len = max_model_len

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt's own log-probabilities are still to be reported: they come with the
        first token of the answer."""
        sampling = self.request.sampling
        return sampling.prompt_logprobs is not None and not self.request.output_token_ids

    @property
    def discards_answer(self) -> bool:
        """Whether only the prompt is wanted: the package makes one token at least."""
        return self.scores_prompt and not self.request.sampling.max_tokens

    @property
    def num_carried_tokens(self) -> int:
        """Tokens of the answer that are submitted as a part of the prompt."""
        return len(self.carried_token_ids)

    @cached_property
    def token_ids(self) -> list[int]:
        """The prompt that the package gets."""
        return self.request.prompt_token_ids + self.carried_token_ids

    @property
    def max_tokens(self) -> int:
        """How many tokens are still to come, as far as there is room; finite, because the package
        keeps room for all of them (docs/tensorrt-llm-contract.md, 5.2). 0 when the answer is as
        long as it may be."""
        if self.discards_answer:
            return 1
        wanted = self.request.sampling.max_tokens - self.num_carried_tokens
        return max(min(wanted, self._max_model_len - len(self.token_ids)), 0)
