"""What the double says and which accidents happen to it: a small JSON document.

It is `double.json` in the model folder. The variable TENSORRT_LLM_DOUBLE_SCRIPT, a path or the JSON
itself, wins over it key by key.
"""

import json
import os
from pathlib import Path
from typing import Literal

import msgspec

VARIABLE = "TENSORRT_LLM_DOUBLE_SCRIPT"
FILE = "double.json"

FaultKind = Literal[
    "out_of_memory",
    "bad_checkpoint",
    "request_error",
    "engine_error",
    "cuda_error",
    "loop_terminates",
    "unequal_logprobs",
    "worker_dies",
    "hang",
    "timeout",
]
AT_START = ("out_of_memory", "bad_checkpoint")


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One accident.

    It happens when a request whose prompt holds the token `prompt_has` (any request when null) has
    `after` tokens (any number when null), and while the file `when` exists, if one is named.
    `once` is a path too: the fault creates that file, and happens only while there is none, so that
    it strikes one process and not the next one. `message` replaces the usual text.
    """

    kind: FaultKind
    prompt_has: int | None = None
    after: int | None = None
    when: str | None = None
    once: str | None = None
    message: str | None = None


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the double behaves.

    Tokens: `say` is an answer word for word, then the end token; `script` holds the tokens that
    answers are drawn from; with neither, answers come from the whole vocabulary. `eos_after` ends
    an answer after that many tokens, `eos_at` where prompt and answer have that many together.
    `certain` leaves sampled answers no choice either: they are the greedy ones.
    `tokens_per_step` is what speculation makes of an iteration: so many tokens at once.
    Time: `step_ms` for each iteration, `load_ms` for the constructor.
    Sizes, where `config.json` is not to be believed: `vocab_size`, `kv_tokens`.
    """

    say: tuple[int, ...] = ()
    script: tuple[int, ...] = ()
    eos_after: int | None = None
    eos_at: int | None = None
    certain: bool = False
    tokens_per_step: int = 1
    step_ms: float = 0.0
    load_ms: float = 0.0
    vocab_size: int | None = None
    kv_tokens: int | None = None
    eos_in_token_ids: bool | None = None
    stats_stay_empty: bool = False
    shutdown_block_s: float = 30.0
    faults: tuple[Fault, ...] = ()


def read_plan(folder: Path) -> Plan:
    """The plan of a model folder. Raises msgspec.ValidationError for an unknown or wrong key."""
    wanted: dict[str, object] = {}
    if (folder / FILE).is_file():
        wanted.update(json.loads((folder / FILE).read_text()))
    script = os.environ.get(VARIABLE, "")
    if script:
        text = script if script.lstrip().startswith("{") else Path(script).read_text()
        wanted.update(json.loads(text))
    return msgspec.convert(wanted, Plan)


def strikes(fault: Fault) -> bool:
    """Whether the fault happens now; one with a fuse burns it."""
    if fault.when is not None and not Path(fault.when).exists():
        return False
    if fault.once is None:
        return True
    try:
        os.close(os.open(fault.once, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    return True
