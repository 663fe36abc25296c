"""Compiles the grammars of requests beside the engine's steps, whatever they cost, and keeps them.

Light constraints are compiled in threads of the engine process. All others are compiled on trial
first, in a process that is killed when it takes too much time or memory, or when nobody waits for
the grammar any more. What passes is compiled again in the engine process, because a compiled
grammar cannot be sent. So no constraint can hold, crash or fill the engine process.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from llguidance import LLMatcher

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import LeftOut, StructuredOutput
from runtime.structured.compiler import compile_fitted, compile_grammar
from runtime.structured.fair_threads import FairThreads
from runtime.structured.fitting import FittedConstraint
from runtime.structured.guide import Grammar
from runtime.structured.trial.trials import Trials
from runtime.structured.vocabulary import grammar_tokenizer, spelling_of
from runtime.structured.weight import is_light, lightened, too_large
from runtime.tokenizers.tokenizer import Tokenizer

MAX_GRAMMARS = 128
"""Size of the cache. An entry is a compiled grammar, or the error of one that does not compile."""

MAX_USES = 16
"""Number of requests that share one compiled grammar. Each of them adds states to its lexer, and
`LIMITS` bounds their number. The next request gets a newly compiled grammar, so that it does not
reach the bound because of others."""

MAX_LIGHTENED = 3
"""Number of keywords that are left out one after another because compiling takes too much. Each of
them costs a trial."""


class _Entry:
    """A grammar that is or will be compiled, the number of requests that share it, how many of them
    still wait for it, and the tenants in whose turn it is compiled, whichever comes first."""

    def __init__(self, wanted: StructuredOutput) -> None:
        self.wanted = wanted
        self.future: Future[Grammar] = Future()
        self.num_uses = 0
        self.num_waiting = 0
        self.tenants: set[str] = set()
        self._turn = threading.Lock()

    @property
    def is_started(self) -> bool:
        return self._turn.locked()

    @property
    def is_unwanted(self) -> bool:
        return not self.num_waiting

    def start(self) -> bool:
        """Returns whether it was not started before."""
        return self._turn.acquire(blocking=False)

    @property
    def is_used_up(self) -> bool:
        """Whether the next request needs a new grammar. A refusal is reused without limit, another
        error never."""
        if not self.future.done():
            return self.num_uses >= MAX_USES
        if (error := self.future.exception()) is None:
            return self.num_uses >= MAX_USES
        return not isinstance(error, InvalidRequest)


class GrammarCompiler:
    """Compiles grammars and caches them: requests with the same constraint share one.

    Must be used from one thread. `close` ends the threads and processes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._light = FairThreads("grammars")
        self._heavy = FairThreads("trials")
        self._trials = Trials(lambda: spelling_of(tokenizer))
        self._grammar_tokenizer = self._light.submit(partial(grammar_tokenizer, tokenizer))
        self._grammars: OrderedDict[StructuredOutput, _Entry] = OrderedDict()
        self._unfinished: dict[Future[Grammar], _Entry] = {}

    @property
    def num_compiling(self) -> int:
        """Number of grammars that are being compiled now."""
        return sum(entry.is_started for entry in self._current().values())

    @property
    def num_waiting(self) -> int:
        """Number of grammars that wait for their turn to be compiled."""
        return sum(not entry.is_started for entry in self._current().values())

    def take_num_killed(self) -> int:
        """Number of trials that have been killed since the last call."""
        return self._trials.take_num_killed()

    def compile(self, wanted: StructuredOutput, tenant: str = "") -> Future[Grammar]:
        """The future of a grammar, which is compiled in this tenant's turn. It raises
        InvalidRequest if the constraint cannot be enforced; the error names the parameter and, for
        a JSON schema, the path. Whoever gets it calls `leave` with it in the end."""
        entry = self._grammars.get(wanted)
        is_new = entry is None or entry.is_used_up
        if entry is None or is_new:
            entry = self._grammars[wanted] = _Entry(wanted)
        entry.num_uses += 1
        entry.num_waiting += 1
        self._grammars.move_to_end(wanted)
        if len(self._grammars) > MAX_GRAMMARS:
            self._grammars.popitem(last=False)
        if tenant not in entry.tenants and not entry.is_started:
            self._enqueue(entry, tenant)
        return entry.future

    def leave(self, future: Future[Grammar]) -> None:
        """A request does not wait for its grammar any longer. Nothing is compiled for nobody."""
        entry = self._current().get(future)
        if entry is None:
            return
        entry.num_waiting -= 1
        if entry.is_unwanted and self._grammars.get(entry.wanted) is entry:
            del self._grammars[entry.wanted]

    def close(self) -> None:
        for entry in self._unfinished.values():
            entry.num_waiting = 0
        for threads in (self._light, self._heavy):
            threads.close()
        self._trials.close()

    def _current(self) -> dict[Future[Grammar], _Entry]:
        if self._unfinished:
            self._unfinished = {
                future: entry for future, entry in self._unfinished.items() if not future.done()
            }
        return self._unfinished

    def _enqueue(self, entry: _Entry, tenant: str) -> None:
        entry.tenants.add(tenant)
        self._unfinished[entry.future] = entry
        if is_light(entry.wanted):
            self._light.submit_for(tenant, partial(_fulfil, entry, self._build))
        else:
            self._heavy.submit_for(tenant, partial(_fulfil, entry, self._try_first))
        # A process is ready before the first trial, and again soon after one that was killed.
        self._heavy.submit(self._trials.warm_up)

    def _try_first(self, entry: _Entry) -> Grammar:
        tokenizer = self._grammar_tokenizer.result()
        return self._grammar(*compile_fitted(self._fit_on_trial(entry), tokenizer))

    def _fit_on_trial(self, entry: _Entry) -> FittedConstraint:
        """What remains of a constraint when it has to compile within the bounds of a trial."""
        wanted = entry.wanted
        left_out: tuple[LeftOut, ...] = ()
        while True:
            result = self._trials.run(wanted, lambda: entry.is_unwanted)
            if isinstance(result, FittedConstraint):
                return FittedConstraint(result.wanted, (*left_out, *result.left_out))
            lighter = lightened(wanted, result)
            if entry.is_unwanted or lighter is None or len(left_out) == MAX_LIGHTENED:
                raise too_large(wanted, result)
            wanted, left_out = lighter.wanted, (*left_out, *lighter.left_out)

    def _build(self, entry: _Entry) -> Grammar:
        return self._grammar(*compile_grammar(entry.wanted, self._grammar_tokenizer.result()))

    def _grammar(self, matcher: LLMatcher, fitted: FittedConstraint) -> Grammar:
        vocab_size, eog_token_ids = self._tokenizer.vocab_size, self._tokenizer.eog_token_ids
        return Grammar(matcher, vocab_size, eog_token_ids, fitted.left_out)


def _fulfil(entry: _Entry, way: Callable[[_Entry], Grammar]) -> None:
    """Settle the future of an entry; an unwanted one is dropped."""
    if not entry.start():
        return
    if entry.is_unwanted:
        entry.future.cancel()
        return
    try:
        entry.future.set_result(way(entry))
    except BaseException as error:  # whoever waits for the future gets it
        entry.future.set_exception(error)
