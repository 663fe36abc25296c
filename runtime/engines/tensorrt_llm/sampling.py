"""Converts a request's sampling parameters to the package's.

Each submission gets a new object, because the package writes into it
(docs/tensorrt-llm-contract.md, 2.4).
"""

from typing import Any, NoReturn

from runtime.engines.tensorrt_llm.end_tokens import EndTokens
from runtime.engines.tensorrt_llm.guides import make_guide
from runtime.engines.tensorrt_llm.setup.package import Package
from runtime.engines.tensorrt_llm.submission import Submission
from runtime.errors import InvalidRequest
from runtime.messages.request import Request, SamplingParams, Thinking
from runtime.messages.structured_output import StructuredOutput
from runtime.text.detokenizer import spell
from runtime.tokenizers.tokenizer import Tokenizer

MAX_SEED = (1 << 63) - 1
_MIX = 0x9E3779B97F4A7C15


class SamplingBuilder:
    """Makes the package's `SamplingParams`."""

    def __init__(
        self,
        package: Package,
        end_tokens: EndTokens,
        tokenizer: Tokenizer,
        *,
        native_penalties: bool,
    ) -> None:
        self._package = package
        self._tokenizer = tokenizer
        self._end_tokens = end_tokens
        self._native_penalties = native_penalties

    def build(self, submission: Submission) -> Any:
        """The package's sampling parameters for a submission. Raises InvalidRequest for a parameter
        that the installed release lacks."""
        params = submission.request.sampling
        arguments: dict[str, Any] = {
            "max_tokens": submission.max_tokens,
            "detokenize": False,
            "add_special_tokens": False,
            **_choice(params, _seed(params.seed, submission)),
            **self._end(params),
            **self._logprobs(submission),
            **self._penalties(submission),
        }
        if params.structured_output is not None:
            arguments["guided_decoding"] = make_guide(params.structured_output)
        self._check_known(arguments)
        return self._package.sampling_class(**arguments)

    def _end(self, params: SamplingParams) -> dict[str, Any]:
        """The fields that end a generation. Stop tokens stay in the output, as end-of-sequence
        tokens do. `end_id` stays unset if the package has a tokenizer, unless end tokens are to be
        ignored: the package would add the model's other end tokens to the stop tokens
        (docs/tensorrt-llm-contract.md, 2.4 and 10.5)."""
        stop = set(params.stop_token_ids)
        if not params.ignore_eos:
            stop |= self._end_tokens.token_ids
        end: dict[str, Any] = {"include_stop_str_in_output": True, "ignore_eos": params.ignore_eos}
        if stop:
            end["stop_token_ids"] = sorted(stop)
        eos_token_id = self._end_tokens.eos_token_id
        is_ours = not self._end_tokens.known_to_package or params.ignore_eos
        if is_ours and eos_token_id is not None:
            end["end_id"] = end["pad_id"] = eos_token_id
        return end

    def _logprobs(self, submission: Submission) -> dict[str, Any]:
        """The fields for log-probabilities. At least one is requested, because 0 means none at all
        in some releases (docs/tensorrt-llm-contract.md, 3.6)."""
        params = submission.request.sampling
        asked: dict[str, Any] = {}
        if params.logprobs is not None:
            asked["logprobs"] = max(params.logprobs, 1)
        if submission.scores_prompt and params.prompt_logprobs is not None:
            asked["prompt_logprobs"] = max(params.prompt_logprobs, 1)
        return asked

    def _penalties(self, submission: Submission) -> dict[str, Any]:
        """The fields for penalties and for rules of our own. Penalties that the package's sampler
        would not apply as the API defines them become such rules: see `token_rules`."""
        params = submission.request.sampling
        native = self._native_penalties and _fits_native(params)
        fields = _native_penalties(submission) if native else {}
        rules = _rules(submission, self._end_tokens, with_penalties=not native)
        rules |= _thinking_rules(submission.request, self._tokenizer)
        if rules:
            rules["prompt_token_ids"] = submission.request.prompt_token_ids
            rules["output_token_ids"] = submission.carried_token_ids
            fields["logits_processor"] = _processor(rules)
        return fields

    def _check_known(self, arguments: dict[str, Any]) -> None:
        for name in arguments:
            if name not in self._package.sampling_fields:
                raise InvalidRequest(
                    f"The installed TensorRT-LLM {self._package.version} has no `{name}`, which"
                    " this request needs.",
                    param=name,
                )


def _choice(params: SamplingParams, seed: int) -> dict[str, Any]:
    """The fields for the choice of a token. The temperature is always set, because the package is
    greedy by default (docs/tensorrt-llm-contract.md, 4.3). The seed is always set, because without
    one all requests draw the same numbers (10.6)."""
    if params.temperature == 0:
        return {"temperature": 0.0, "seed": seed}
    choice: dict[str, Any] = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": max(params.top_k, 0),
        "seed": seed,
    }
    if params.min_p:
        choice["min_p"] = params.min_p
    return choice


def _seed(seed: int, submission: Submission) -> int:
    """The seed of a submission. The package starts its random numbers anew with each submission,
    and a resumed request must not draw the same numbers again."""
    return (seed + _MIX * submission.num_carried_tokens) & MAX_SEED


def _fits_native(params: SamplingParams) -> bool:
    """Whether the package can apply these penalties. It leaves the prompt out for all penalties or
    for none, but the repetition penalty counts the prompt and the other two do not."""
    counts_answer = bool(params.presence_penalty or params.frequency_penalty)
    return not (counts_answer and params.repetition_penalty != 1.0)


def _native_penalties(submission: Submission) -> dict[str, Any]:
    params = submission.request.sampling
    if params.repetition_penalty != 1.0:
        return {"repetition_penalty": params.repetition_penalty}
    if not params.presence_penalty and not params.frequency_penalty:
        return {}
    return {
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "prompt_ignore_length": len(submission.request.prompt_token_ids),
    }


def _rules(
    submission: Submission, end_tokens: EndTokens, *, with_penalties: bool
) -> dict[str, Any]:
    """The fields of `Rules` that the request needs. `min_tokens` and `logit_bias` always become
    rules of our own. For `min_tokens` the package bans only one of several end tokens; for
    `logit_bias` it wants an array as long as its vocabulary, whose length it does not report
    (docs/tensorrt-llm-contract.md, 4.4 and 4.7)."""
    params = submission.request.sampling
    rules: dict[str, Any] = {}
    if params.min_tokens > submission.num_carried_tokens:
        ends = set(params.stop_token_ids)
        if not params.ignore_eos:
            ends |= end_tokens.token_ids
        rules |= {"min_tokens": params.min_tokens, "end_token_ids": sorted(ends)}
    if params.logit_bias:
        rules["logit_bias"] = params.logit_bias
    if with_penalties:
        rules |= _penalty_rules(params)
    return rules


def _thinking_rules(request: Request, tokenizer: Tokenizer) -> dict[str, Any]:
    """The fields of `Rules` that enforce the thinking budget. The package's worker process has none
    of our tokenizers, so it gets the bytes of the tokens in the tags.

    A structured output applies from the first token on, so an answer with one has no thinking to
    end. Raises InvalidRequest if the prompt has begun the thinking or thinking may repeat: it would
    violate the output's grammar. A structural tag that gets here leaves the text around tool calls
    free, so there may be thinking.
    """
    thinking = request.thinking
    if thinking is None:
        return {}
    wanted = request.sampling.structured_output
    if wanted is not None and wanted.structural_tag is None:
        if thinking.starts_inside or thinking.repeats:
            _refuse_thinking(wanted)
        return {}
    if thinking.budget is None:
        return {}
    tags = (thinking.start, thinking.end, thinking.answer)
    token_ids = {each for tag in tags for each in _tag_token_ids(tag, tokenizer)}
    _check_end(thinking, tokenizer)
    spelled = {token_id: spell(tokenizer, token_id) for token_id in token_ids}
    return {"thinking": thinking, "spelled": spelled}


def _tag_token_ids(tag: str, tokenizer: Tokenizer) -> list[int]:
    return tokenizer.encode(tag, add_special=False, parse_special=True)


def _check_end(thinking: Thinking, tokenizer: Tokenizer) -> None:
    """Raises InvalidRequest if the end tag is plain text of several tokens: the model may produce
    it from other tokens, which would not be recognised."""
    token_ids = _tag_token_ids(thinking.end, tokenizer)
    as_text = tokenizer.encode(thinking.end, add_special=False, parse_special=False)
    if len(token_ids) > 1 and token_ids == as_text:
        raise InvalidRequest(
            f"`thinking_token_budget` needs a model that ends its thinking by a token of its own:"
            f" {thinking.end!r} is {len(token_ids)} tokens of text. Leave it out.",
            param="thinking_token_budget",
            code="unsupported_parameter",
        )


def _refuse_thinking(wanted: StructuredOutput) -> NoReturn:
    raise InvalidRequest(
        f"`{wanted.source}` is not possible here while the model thinks: TensorRT-LLM would hold"
        ' the thinking to it as well. Turn thinking off, with `reasoning_effort` "none" where the'
        " model's chat template knows that.",
        param=wanted.source,
        code="unsupported_value",
    )


def _penalty_rules(params: SamplingParams) -> dict[str, Any]:
    defaults = {"presence_penalty": 0.0, "frequency_penalty": 0.0, "repetition_penalty": 1.0}
    values = {name: getattr(params, name) for name in defaults}
    return {name: value for name, value in values.items() if value != defaults[name]}


def _processor(rules: dict[str, Any]) -> Any:
    # Imported here, because the module imports the package for its base class.
    from runtime.engines.tensorrt_llm.token_rules import Rules, TokenRules

    return TokenRules(Rules(**rules))
