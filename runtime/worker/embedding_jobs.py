"""Embedding requests in the engine process: their queue, their batch and the order of vectors.

Embedding requests have a queue of their own and are computed between the engine's steps. The
running requests add one input each to the batch, in turn, so a short request does not wait for the
end of a long one.
"""

from collections.abc import Iterator

from runtime.engines.base import Embedder
from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.messages.embedding import EmbeddingRequest
from runtime.messages.wire import Embedded
from runtime.worker.waiting_queue import WaitingQueue


class _Job:
    """A running request. Vectors may be computed out of order; they are reported in input order."""

    def __init__(self, request: EmbeddingRequest) -> None:
        self.request = request
        self.num_given = 0
        self._num_told = 0
        self._vectors: dict[int, bytes] = {}

    @property
    def next_input(self) -> list[int] | None:
        """The next input for the embedder; None when the embedder has all inputs."""
        inputs = self.request.inputs
        return inputs[self.num_given] if self.num_given < len(inputs) else None

    @property
    def is_done(self) -> bool:
        return self._num_told == len(self.request.inputs)

    def push(self, index: int, vector: bytes) -> None:
        self._vectors[index] = vector

    def take(self) -> list[bytes]:
        """The vectors to report next, up to the first that is not computed."""
        vectors = []
        while self._num_told in self._vectors:
            vectors.append(self._vectors.pop(self._num_told))
            self._num_told += 1
        return vectors


class EmbeddingJobs:
    """All embedding requests of one engine process. At most `max_num_jobs` requests run at the same
    time, and `max_num_waiting` more may wait."""

    def __init__(
        self,
        embedder: Embedder | None,
        *,
        max_num_jobs: int,
        max_num_waiting: int,
        priority_ageing: float,
    ) -> None:
        self._embedder = embedder
        self._max_num_jobs = max_num_jobs
        self._waiting: WaitingQueue[EmbeddingRequest] = WaitingQueue(
            max_num_waiting, priority_ageing
        )
        self._jobs: dict[str, _Job] = {}

    @property
    def has_work(self) -> bool:
        return bool(self._jobs or len(self._waiting))

    @property
    def num_running(self) -> int:
        return len(self._jobs)

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def request_ids(self) -> list[str]:
        """Ids of the running requests."""
        return list(self._jobs)

    def check_room(self) -> None:
        """Raises EngineOverloaded when the queue has no room for one more request."""
        self._waiting.check_room(self._max_num_jobs - len(self._jobs))

    def submit(self, request: EmbeddingRequest) -> None:
        """Queue a request. Raises InvalidRequest, or EngineError when the embedder cannot allocate
        what it needs."""
        embedder = self._embedder
        if embedder is None:
            raise InvalidRequest(
                "The engine has no embeddings.", param="model", code="unsupported_value"
            )
        for index, token_ids in enumerate(request.inputs):
            _check(token_ids, f"input[{index}]", embedder)
        embedder.open()
        self._waiting.admit(request)

    def abort(self, request_id: str) -> None:
        """Free what the request holds. Unknown ids are ignored."""
        self._waiting.remove(request_id)
        job = self._jobs.pop(request_id, None)
        if job is not None and self._embedder is not None:
            for index in range(job.num_given):
                self._embedder.remove((request_id, index))

    def take_expired(self, now: float) -> list[EmbeddingRequest]:
        """Take out every waiting request whose deadline has passed."""
        return self._waiting.take_expired(now)

    def admit(self, now: float) -> Iterator[str]:
        """Start the next requests. Yields each request's id before its inputs are computed."""
        while len(self._jobs) < self._max_num_jobs:
            request = self._waiting.peek(now)
            if request is None:
                return
            self._waiting.take(request)
            self._waiting.charge(request.tenant, request.num_tokens)
            yield request.request_id
            self._jobs[request.request_id] = _Job(request)

    def step(self, seconds: float) -> list[Embedded]:
        """Compute for about `seconds`. Returns the vectors to report next."""
        if not self._jobs or self._embedder is None:
            return []
        self._feed(self._embedder)
        changed: dict[str, _Job] = {}
        for (request_id, index), vector in self._embedder.step(seconds):
            changed[request_id] = job = self._jobs[request_id]
            job.push(index, vector)
        reported = [(request_id, job.take()) for request_id, job in changed.items()]
        for request_id, job in changed.items():
            if job.is_done:
                del self._jobs[request_id]
        return [Embedded(request_id, vectors) for request_id, vectors in reported if vectors]

    def take_num_tokens(self) -> int:
        """Number of tokens computed since the last call."""
        return 0 if self._embedder is None else self._embedder.take_num_tokens()

    def _feed(self, embedder: Embedder) -> None:
        """Add one input of each request in turn, until the next input does not fit. Shorter inputs
        do not pass it, since a long input would then wait forever."""
        hungry = [job for job in self._jobs.values() if job.next_input is not None]
        while hungry:
            job = hungry.pop(0)
            token_ids = job.next_input
            assert token_ids is not None, "nothing is left to compute: this is a bug"
            if not embedder.can_add(len(token_ids)):
                return
            request_id = job.request.request_id
            embedder.add((request_id, job.num_given), token_ids)
            job.num_given += 1
            self._jobs[request_id] = self._jobs.pop(request_id)  # behind the other requests
            if job.next_input is not None:
                hungry.append(job)


def _check(token_ids: list[int], where: str, embedder: Embedder) -> None:
    if not token_ids:
        raise InvalidRequest(f"`{where}` has no tokens.", param=where)
    if len(token_ids) > embedder.max_tokens:
        raise ContextLengthExceeded(
            f"`{where}` has {len(token_ids)} tokens; the model reads {embedder.max_tokens} of a"
            " text.",
            param=where,
        )
    if not all(0 <= token < embedder.vocab_size for token in token_ids):
        raise InvalidRequest(
            f"`{where}` has a token id outside 0..{embedder.vocab_size - 1}.", param=where
        )
