"""`lockgate-convert engine CHECKPOINT TARGET`: engines for TensorRT-LLM 1.2's older backend."""

import argparse
from pathlib import Path

from convert.pipeline.trt_engine import EngineLimits, build_engine
from runtime.terminal.numbers import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lockgate-convert engine`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder in bf16 or fp16")
    parser.add_argument("target", metavar="TARGET", help="the folder to make; it must not exist")
    defaults = EngineLimits()
    parser.add_argument(
        "--max-batch-size",
        type=whole_number(1),
        default=defaults.max_batch_size,
        help="sequences at once (16)",
    )
    parser.add_argument(
        "--max-seq-len",
        type=whole_number(1),
        metavar="TOKENS",
        help="of a sequence (the model's, up to 4096)",
    )
    parser.add_argument(
        "--max-num-tokens",
        type=whole_number(1),
        default=defaults.max_num_tokens,
        metavar="TOKENS",
        help="of one step (8192)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Builds, and prints the target."""
    limits = EngineLimits(
        max_batch_size=arguments.max_batch_size,
        max_seq_len=arguments.max_seq_len or 0,
        max_num_tokens=arguments.max_num_tokens,
    )
    build_engine(Path(arguments.checkpoint), Path(arguments.target), limits)
    print(arguments.target)
    return 0
