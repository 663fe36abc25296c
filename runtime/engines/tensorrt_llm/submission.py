"""The submission of one request to the package, initial or resumed."""

from functools import cached_property, partial

from runtime.messages.request import Request
from runtime.text.detokenizer import spell
from runtime.text.thinking import ThinkingTracker
from runtime.tokenizers.tokenizer import Tokenizer


class Submission:
    """A request in the form in which the package gets it: the package knows prompts, but no answers
    in progress.

    A resumed request is submitted as its prompt followed by the answer so far, `carried_token_ids`.
    That is impossible with a structured output, because the package would begin the grammar anew.
    Such an answer is computed again from the prompt, and `replay` holds the tokens that it must
    repeat before new ones count.

    Where the thinking budget is used up already, `forced_token_ids` end the thinking. They are
    carried too: a logits processor could not force them, because the package calls it once for each
    piece of a prompt (docs/tensorrt-llm-contract.md, 4.5).
    """

    def __init__(self, request: Request, max_model_len: int, tokenizer: Tokenizer) -> None:
        self.request = request
        known = request.output_token_ids
        is_guided = request.sampling.structured_output is not None
        before = [] if is_guided else known
        room = request.sampling.max_tokens - len(before)
        forced = _forced_token_ids(request, before, tokenizer)[: max(room, 0)]
        self.carried_token_ids = [*before, *forced]
        self.replay = known[len(forced) :] if is_guided else []
        self.forced_token_ids = self.carried_token_ids[len(known) :]
        self._max_model_len = max_model_len

    @property
    def scores_prompt(self) -> bool:
        """Whether the prompt's own log-probabilities are still to be reported: they come with the
        first token of the answer."""
        sampling = self.request.sampling
        return sampling.prompt_logprobs is not None and not self.request.output_token_ids

    @property
    def discards_answer(self) -> bool:
        """Whether only the prompt's log-probabilities are wanted. The package generates at least
        one token, which is dropped then."""
        return self.scores_prompt and not self.request.sampling.max_tokens

    @property
    def num_carried_tokens(self) -> int:
        """Tokens of the answer that are submitted as a part of the prompt."""
        return len(self.carried_token_ids)

    @cached_property
    def token_ids(self) -> list[int]:
        """The prompt for the package: the request's prompt and the carried tokens."""
        return self.request.prompt_token_ids + self.carried_token_ids

    @property
    def max_tokens(self) -> int:
        """The limit for the package: tokens that are still to come, as far as the context has room.
        It is always finite, because the package keeps room for all of them
        (docs/tensorrt-llm-contract.md, 5.2). 0 if the answer already has its full length."""
        if self.discards_answer:
            return 1
        wanted = self.request.sampling.max_tokens - self.num_carried_tokens
        return max(min(wanted, self._max_model_len - len(self.token_ids)), 0)


def num_whole_tokens(request: Request, max_model_len: int) -> int:
    """Tokens of the prompt and the whole answer, as far as the context has room, wherever the
    answer stands. The package generates at least one."""
    answer = max(request.sampling.max_tokens, 1)
    return min(len(request.prompt_token_ids) + answer, max_model_len)


def _forced_token_ids(
    request: Request, output_token_ids: list[int], tokenizer: Tokenizer
) -> list[int]:
    """The tokens that have to come next in an answer, because its thinking budget is used up."""
    thinking = request.thinking
    if thinking is None or thinking.budget is None:
        return []
    tracker = ThinkingTracker(thinking, partial(spell, tokenizer))
    tracker.push_all(output_token_ids)
    forced: list[int] = []
    while (token_id := tracker.forced_token_id) is not None:
        forced.append(token_id)
        tracker.push(token_id)
    return forced
