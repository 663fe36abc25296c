"""A process that compiles grammars on trial.

It reads the vocabulary and then constraints from its standard input, and writes a verdict on each.
At the end of its input it leaves at once, whatever it is doing. Its memory is bounded, and so is
the processor time that it may spend on one grammar; both bounds end the process.
"""

import os
import queue
import sys
import threading
from typing import BinaryIO

import psutil
from llguidance import LLTokenizer

from runtime.errors import InvalidRequest
from runtime.messages.structured_output import StructuredOutput
from runtime.processes import ignore_interrupts
from runtime.structured.compiler import compile_grammar
from runtime.structured.trial.limits import MAX_MEMORY, MAX_PROCESSOR_SECONDS, NICENESS, STACK_BYTES
from runtime.structured.trial.messages import Spelling, Verdict, read_message, write_message
from runtime.structured.vocabulary import trial_tokenizer


def main() -> None:
    """Entry point of the process."""
    ignore_interrupts()
    requests, answers = sys.stdin.buffer, _take_stdout()
    spelling = read_message(requests, Spelling)
    if spelling is None:
        return
    wanted: queue.SimpleQueue[StructuredOutput] = queue.SimpleQueue()
    threading.stack_size(STACK_BYTES)
    threading.Thread(target=_try_all, args=(spelling, wanted, answers), daemon=True).start()
    while (constraint := read_message(requests, StructuredOutput)) is not None:
        wanted.put(constraint)
    os._exit(0)


def _take_stdout() -> BinaryIO:
    """The standard output, for verdicts alone: what else is printed goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _try_all(
    spelling: Spelling, wanted: "queue.SimpleQueue[StructuredOutput]", answers: BinaryIO
) -> None:
    try:
        tokenizer = trial_tokenizer(spelling)
        _stand_back()
        _bound_memory()
        write_message(answers, Verdict())  # ready
        while True:
            constraint = wanted.get()
            _bound_processor_time()
            write_message(answers, _verdict(constraint, tokenizer))
    except OSError:  # nobody reads any more
        os._exit(0)
    finally:
        os._exit(1)


def _verdict(constraint: StructuredOutput, tokenizer: LLTokenizer) -> Verdict:
    try:
        _, fitted = compile_grammar(constraint, tokenizer)
    except InvalidRequest as error:
        return Verdict(refusal=str(error), param=error.param, code=error.code)
    return Verdict(fitted=fitted)


def _stand_back() -> None:
    """Gives the engine precedence over this process."""
    if sys.platform == "win32":
        psutil.Process().nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
    else:
        os.nice(NICENESS)


def _bound_memory() -> None:
    if sys.platform != "win32":
        import resource

        most = psutil.Process().memory_info().vms + 2 * MAX_MEMORY
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or hard > most:
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def _bound_processor_time() -> None:
    """Should the engine not be there to end a trial, the kernel does."""
    if sys.platform != "win32":
        import resource

        usage = resource.getrusage(resource.RUSAGE_SELF)
        most = int(usage.ru_utime + usage.ru_stime + 2 * MAX_PROCESSOR_SECONDS) + 1
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        if hard == resource.RLIM_INFINITY or hard > most:
            resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


if __name__ == "__main__":
    main()
