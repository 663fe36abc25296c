"""What compiling one grammar may cost, and how its process is started."""

import sys

MAX_PROCESSOR_SECONDS = 1.0
MAX_SECONDS = 20.0
"""Seconds of processor time, and of any time, that compiling one grammar may take. The engine's
threads go first, so on a busy machine the one becomes the other."""

MAX_MEMORY = 128 * 1024**2
"""Bytes that one grammar may add to the memory of its process."""

START_SECONDS = 60.0
"""How long a process may take to start; on an idle machine it is less than a second."""

POLL_SECONDS = 0.02
"""How often the engine looks at the time and the memory that a trial uses."""

STACK_BYTES = (1 if sys.platform == "win32" else 4) * 1024**2
"""Stack of the thread that compiles on trial. The engine's own threads have more, so that a grammar
that is nested too deeply ends the process of its trial and never the engine."""

NICENESS = 5
"""The niceness of processes and threads that compile grammars (POSIX)."""
