"""Progress where there is no terminal."""

import pytest

from runtime.terminal.progress_lines import ProgressLines


def test_a_line_now_and_then_with_rate_and_time_left(capsys: pytest.CaptureFixture[str]):
    clock = iter([0.0, 1.0, 5.0, 11.0, 12.0, 21.0])
    progress = ProgressLines(lambda: next(clock))
    for done in (0, 4_000_000, 10_000_000, 11_000_000):
        progress(done, 100_000_000, "model.gguf")
    progress(0, 50_000_000, "another.gguf")
    assert capsys.readouterr().err.splitlines() == [
        "model.gguf: 10 of 100 MB, 1.0 MB/s, 90 s left",
        "another.gguf: 0 of 50 MB",
    ]


def test_a_pause_is_said_at_once(capsys: pytest.CaptureFixture[str]):
    ProgressLines(lambda: 0.0)(0, 0, "waiting for another pull of this file")
    assert capsys.readouterr().err == "waiting for another pull of this file\n"
