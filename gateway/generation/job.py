"""What one answer is to be, in no API's words.

Each family of endpoints translates its requests into a `Job`, once, and names mistakes by its own
parameters. All that follows reads the job alone.
"""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from gateway.chat.conversation import Conversation
from gateway.generation.scheduling import Scheduling
from gateway.settings.schema import Truncation
from runtime.messages.request import SamplingParams


class TextPrompts(Struct, frozen=True, kw_only=True):
    """Texts to continue: all of them strings, or all of them token ids.

    With a `suffix` the model fills the gap between each prompt and the suffix. `is_echoed` puts the
    prompt in front of its answers.
    """

    prompts: Sequence[str] | Sequence[list[int]]
    suffix: str = ""
    is_echoed: bool = False


class TokenLimit(Struct, frozen=True, kw_only=True):
    """How many tokens an answer may have: never more than the context has left after the prompt.
    `num_tokens` is the client's limit; None if it sets none. Then `default` applies; a `default` of
    None is the rest of the context."""

    num_tokens: int | None
    default: int | None = None


class Job(Struct, frozen=True, kw_only=True):
    """One answer to be: checked, with every default applied.

    `id` is the answer's id; the engine's requests are numbered after it. `sampling` is what all
    choices share: everything but length and seed. `num_choices` are the answers to each prompt that
    the client gets, `num_candidates` those that are generated. `seed` is None if the client sets
    none. `truncate_prompt_tokens` keeps the last tokens of each prompt; see
    `gateway.generation.prompts.truncate`. `truncation` says whether a conversation that is too long
    loses its oldest turns; None leaves that to the model's settings. `param_names` has this API's
    names of the parameters that errors of the engine name as in vLLM, where the names differ. With
    `reports_tokens` the answer's events have its token ids. `ignored` are parameters that have no
    effect, with the reason.
    """

    id: str
    prompt: Conversation | TextPrompts
    sampling: SamplingParams
    limit: TokenLimit
    scheduling: Scheduling
    num_choices: int = 1
    num_candidates: int = 1
    seed: int | None = None
    truncate_prompt_tokens: int | None = None
    truncation: Truncation | None = None
    is_streamed: bool = False
    reports_tokens: bool = False
    param_names: Mapping[str, str] = {}
    ignored: Mapping[str, str] = {}

    @property
    def needs_engine(self) -> bool:
        """False if the client wants nothing but an echo without scores."""
        return self.limit.num_tokens != 0 or self.sampling.prompt_logprobs is not None

    @property
    def must_call(self) -> bool:
        """Whether the answer can only be tool calls."""
        tools = self.prompt.tools if isinstance(self.prompt, Conversation) else None
        return tools is not None and tools.must_call

    @property
    def count_param(self) -> str:
        """The request parameter that makes the number of the engine's requests large."""
        if not isinstance(self.prompt, Conversation) and len(self.prompt.prompts) > 1:
            return "prompt"
        return "best_of" if self.num_candidates > self.num_choices else "n"

    @property
    def num_requests(self) -> int:
        """The engine's requests for this job."""
        prompts = 1 if isinstance(self.prompt, Conversation) else len(self.prompt.prompts)
        return prompts * self.num_candidates
