"""What an answer says of its tokens beside its text, in vLLM's fields."""

from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType

from gateway.api.openai.protocol.answers import PromptLogprobs
from gateway.api.openai.protocol.requests import GenerationRequest
from gateway.api.openai.writers.logprobs import prompt_logprobs
from gateway.generation.events import Choice
from gateway.generation.run import AnswerRun
from gateway.models.served_model import ServedModel
from runtime.tokenizers.tokenizer import Tokenizer


class TokenReport(Struct, frozen=True, kw_only=True):
    """Token ids and the log-probabilities of prompts, where the request wants them.

    `prompts` are the token ids of each choice's prompt. `has_token_ids` shows them and those of the
    answer. `num_prompt_logprobs` is the number of likeliest tokens at each place of the prompt;
    None for no log-probabilities of it.
    """

    tokenizer: Tokenizer
    prompts: Sequence[list[int]]
    has_token_ids: bool = False
    num_prompt_logprobs: int | None = None

    def prompt_token_ids(self, index: int) -> list[int] | UnsetType:
        """The prompt of a choice."""
        return self.prompts[index] if self.has_token_ids else UNSET

    def token_ids(self, choice: Choice) -> Sequence[int] | UnsetType:
        """The tokens that were generated for a choice."""
        return choice.token_ids[choice.num_echoed_tokens :] if self.has_token_ids else UNSET

    def prompt_logprobs(self, choice: Choice) -> PromptLogprobs | UnsetType:
        """The log-probabilities of a choice's prompt."""
        if self.num_prompt_logprobs is None:
            return UNSET
        return prompt_logprobs(
            self.tokenizer,
            self.prompts[choice.index],
            choice.prompt_logprobs,
            self.num_prompt_logprobs,
        )


def token_report(data: GenerationRequest, run: AnswerRun, model: ServedModel) -> TokenReport | None:
    """What the request wants to know; None if it is nothing."""
    if not data.return_token_ids and data.prompt_logprobs is None:
        return None
    return TokenReport(
        tokenizer=model.tokenizer,
        prompts=run.prompt_token_ids,
        has_token_ids=bool(data.return_token_ids),
        num_prompt_logprobs=data.prompt_logprobs,
    )
