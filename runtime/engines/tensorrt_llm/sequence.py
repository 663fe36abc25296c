"""A running request: the package's result, and how much of it the engine has taken."""

import asyncio
from typing import Any

import msgspec

from runtime.engines.base import SequenceOutput
from runtime.engines.tensorrt_llm.end_tokens import EndTokens
from runtime.engines.tensorrt_llm.submission import Submission
from runtime.errors import EngineError
from runtime.messages.request import FinishReason, Request, TokenLogprobs

UNKNOWN_LOGPROB = -9999.0
"""OpenAI's API reports this value for a token whose probability is too small."""


class Sequence:
    """One running request of the engine.

    `result` is the package's object for it, always the same one, whose lists grow
    (docs/tensorrt-llm-contract.md, 3.1 and 3.3). New tokens are those behind `_num_taken`. `ended`
    says that the package's iteration is over, `closed` that the engine has finished with the
    sequence.
    """

    def __init__(self, submission: Submission, end_tokens: EndTokens, now: float) -> None:
        self.request = submission.request
        self.submission = submission
        self.result: Any = None
        self.consumer: asyncio.Task[None] | None = None
        self.error: Exception | None = None
        self.ended = False
        self.closed = False
        self.output_token_ids = list(submission.request.output_token_ids)
        self.last_progress = now
        self.num_cached_tokens = 0
        self._num_taken = 0
        self._replay = submission.replay
        self._forced = submission.forced_token_ids
        self._end_tokens = end_tokens
        self._owes_prompt_logprobs = submission.scores_prompt

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def has_started(self) -> bool:
        """Whether the package has returned a token of it."""
        return self._num_taken > 0

    @property
    def is_scoring(self) -> bool:
        """Whether the package is reading a prompt whose log-probabilities are wanted."""
        return self.submission.scores_prompt and not self.has_started

    @property
    def num_reserved_tokens(self) -> int:
        """Number of KV cells that the package keeps for it, including the whole answer."""
        return len(self.submission.token_ids) + self.submission.max_tokens

    def to_request(self) -> Request:
        """A request that resumes this sequence where it is now."""
        return msgspec.structs.replace(self.request, output_token_ids=self.output_token_ids)

    def whole_already(self) -> SequenceOutput:
        """The output of an answer that has its full length without the package."""
        forced, self._forced = self._forced, []
        self.output_token_ids += forced
        logprobs = _unknown(forced) if self.request.sampling.logprobs is not None else None
        return SequenceOutput(self.request_id, forced, "length", 0, logprobs)

    def take(self) -> SequenceOutput | None:
        """The output since the last call; None if there is none.

        Raises EngineError when the package has ended the sequence for no usual reason, or generates
        other tokens than those of `replay`.
        """
        output = self.result.outputs[0]
        token_ids = self._new_tokens(output)
        reason = _finish_reason(output.finish_reason)
        if self.ended and reason is None:
            raise EngineError("TensorRT-LLM has ended this request without a reason.")
        if self.submission.discards_answer:
            return None if reason is None else self._prompt_alone(output)
        logprobs = self._new_logprobs(output, token_ids)
        if reason == "stop":
            self._complete(output.stop_reason, token_ids, logprobs)
        if self._cut_at_stop(token_ids, logprobs):
            reason = "stop"
        if not token_ids and reason is None:
            return None
        token_ids, logprobs = self._with_forced(token_ids, logprobs)
        self.output_token_ids += token_ids
        cached = min(self.result.cached_tokens or 0, len(self.request.prompt_token_ids))
        self.num_cached_tokens = cached
        scores = self._prompt_logprobs(output)
        return SequenceOutput(self.request_id, token_ids, reason, cached, logprobs, scores)

    def _cut_at_stop(self, token_ids: list[int], logprobs: list[TokenLogprobs] | None) -> bool:
        """Ends the new tokens at the first stop token, and returns whether there is one. Releases
        after 1.2 do not stop there where end tokens are ignored (docs/tensorrt-llm-contract.md,
        3.5)."""
        sampling = self.request.sampling
        num_before = len(self.output_token_ids) + len(self._forced)
        for index, token_id in enumerate(token_ids):
            early = num_before + index + 1 <= sampling.min_tokens
            if token_id in sampling.stop_token_ids and not early:
                del token_ids[index + 1 :]
                if logprobs is not None:
                    del logprobs[index + 1 :]
                return True
        return False

    def _with_forced(
        self, token_ids: list[int], logprobs: list[TokenLogprobs] | None
    ) -> tuple[list[int], list[TokenLogprobs] | None]:
        """The new tokens behind those that the submission has forced, once."""
        forced, self._forced = self._forced, []
        if not forced:
            return token_ids, logprobs
        return [*forced, *token_ids], None if logprobs is None else [*_unknown(forced), *logprobs]

    def _prompt_alone(self, output: Any) -> SequenceOutput:
        scores = self._prompt_logprobs(output)
        return SequenceOutput(self.request_id, [], "length", 0, [], scores)

    def _prompt_logprobs(self, output: Any) -> list[TokenLogprobs | None] | None:
        """The prompt's log-probabilities, once, if they are requested; else None. Each entry of the
        package is about the token after it, the last one about the answer's first token
        (docs/tensorrt-llm-contract.md, 3.6)."""
        if not self._owes_prompt_logprobs:
            return None
        self._owes_prompt_logprobs = False
        wanted = self.request.sampling.prompt_logprobs or 0
        following = self.request.prompt_token_ids[1:]
        entries = list(output.prompt_logprobs or [])
        if len(entries) < len(following):
            raise EngineError(
                f"TensorRT-LLM has scored {len(entries)} of {len(following)} tokens of the prompt."
            )
        pairs = zip(following, entries, strict=False)
        return [None, *(_prompt_score(token, entry, wanted) for token, entry in pairs)]

    def _new_tokens(self, output: Any) -> list[int]:
        """The tokens since the last call, by our own count. The list may be shorter at the end than
        it was before (docs/tensorrt-llm-contract.md, 3.3), and the package's own difference is only
        that of its last response (3.4)."""
        token_ids: list[int] = output.token_ids[self._num_taken :]
        self._num_taken += len(token_ids)
        return self._without_replay(token_ids) if self._replay else token_ids

    def _without_replay(self, token_ids: list[int]) -> list[int]:
        expected, self._replay = self._replay[: len(token_ids)], self._replay[len(token_ids) :]
        if token_ids[: len(expected)] != expected:
            raise EngineError(
                "The engine was restarted, and this answer, which follows a grammar, came out"
                " differently the second time. Send the request again."
            )
        return token_ids[len(expected) :]

    def _new_logprobs(self, output: Any, token_ids: list[int]) -> list[TokenLogprobs] | None:
        wanted = self.request.sampling.logprobs
        if wanted is None:
            return None
        entries = (output.logprobs or [])[self._num_taken - len(token_ids) : self._num_taken]
        known = [
            _logprobs(token, entry, wanted)
            for token, entry in zip(token_ids, entries, strict=False)
        ]
        missing = len(token_ids) - len(known)
        return known + [TokenLogprobs(UNKNOWN_LOGPROB)] * missing

    def _complete(
        self, stop_reason: Any, token_ids: list[int], logprobs: list[TokenLogprobs] | None
    ) -> None:
        """Appends the token that ended the answer if the package has cut it off
        (docs/tensorrt-llm-contract.md, 3.5)."""
        last = token_ids[-1:] or self.output_token_ids[-1:]
        ends = self._end_tokens.token_ids.union(self.request.sampling.stop_token_ids)
        if last and last[0] in ends:
            return
        token = stop_reason if isinstance(stop_reason, int) else self._end_tokens.eos_token_id
        if token is not None:
            token_ids.append(token)
            if logprobs is not None:
                logprobs.append(TokenLogprobs(UNKNOWN_LOGPROB))


def _unknown(token_ids: list[int]) -> list[TokenLogprobs]:
    """Scores for tokens that nobody has scored."""
    return [TokenLogprobs(UNKNOWN_LOGPROB)] * len(token_ids)


def _finish_reason(reason: str | None) -> FinishReason | None:
    match reason:
        case None | "not_finished":
            return None
        case "stop":
            return "stop"
        case "length":
            return "length"
    raise EngineError(f"TensorRT-LLM has ended this request: {reason}.")


def _prompt_score(token: int, entry: Any, wanted: int) -> TokenLogprobs:
    """Raises EngineError if the release does not report the token's own score: a bound in its place
    would falsify any sum of the scores."""
    if isinstance(entry, dict) and token not in entry:
        raise EngineError(
            "The installed TensorRT-LLM does not tell how likely a token of the prompt is unless it"
            " is among the likeliest. Later releases do; or leave out `echo` with `logprobs`."
        )
    return _logprobs(token, entry, wanted)


def _logprobs(token: int, entry: Any, wanted: int) -> TokenLogprobs:
    """The log-probabilities in one token's entry. The entry is a number, or a dictionary by token,
    which in some releases lacks the token itself if it is not among the likeliest. Then its
    log-probability is reported as the lowest of the entry, an upper bound
    (docs/tensorrt-llm-contract.md, 3.6)."""
    if not isinstance(entry, dict):
        return TokenLogprobs(float(entry))
    ranked = sorted(entry.items(), key=lambda item: (-item[1].logprob, item[0]))
    top = [(other, float(logprob.logprob)) for other, logprob in ranked[:wanted]]
    found = entry.get(token)
    if found is None:
        lowest = ranked[-1][1].logprob if ranked else UNKNOWN_LOGPROB
        return TokenLogprobs(float(lowest), None, top)
    return TokenLogprobs(float(found.logprob), found.rank, top)
