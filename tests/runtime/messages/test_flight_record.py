"""What an engine was working on survives its process."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.messages.flight_record import FlightRecorder, read_record

WRITE_AND_DIE = """
import os, signal, sys
from runtime.messages.flight_record import FlightRecorder
FlightRecorder(sys.argv[1]).write(["a", "b"])
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_has_left_its_record(tmp_path):
    path = tmp_path / "record"

    done = subprocess.run([sys.executable, "-c", WRITE_AND_DIE, os.fspath(path)], check=False)

    assert done.returncode == -signal.SIGKILL
    assert read_record(path) == ["a", "b"]


@given(st.lists(st.lists(st.text(max_size=50), max_size=20), min_size=1, max_size=5))
def test_the_last_list_counts_whatever_was_longer_before(tmp_path_factory, lists):
    path = tmp_path_factory.mktemp("record") / "record"
    recorder = FlightRecorder(os.fspath(path))

    for request_ids in lists:
        recorder.write(request_ids)
    recorder.close()

    assert read_record(path) == lists[-1]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_does_not_end_an_engine():
    program = """if True:
        from runtime.messages.flight_record import FlightRecorder
        recorder = FlightRecorder("/dev/full")
        recorder.write(["a"])
        recorder.write(["b"])
        recorder.close()
        print("alive")
    """
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"alive\n", b"")


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
def test_what_a_full_disk_would_not_take_is_unknown(tmp_path):
    """A file can be made smaller where it cannot grow; here the size of files is limited."""
    path = tmp_path / "record"
    program = """if True:
        import resource, signal, sys
        from runtime.messages.flight_record import FlightRecorder
        recorder = FlightRecorder(sys.argv[1])
        recorder.write(["a"])
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        recorder.write(["b"])
    """
    subprocess.run([sys.executable, "-c", program, os.fspath(path)], check=True)

    assert read_record(path) is None


def test_what_cannot_be_read_is_unknown_and_not_empty(tmp_path):
    path = tmp_path / "record"
    assert read_record(path) is None
    recorder = FlightRecorder(os.fspath(path))
    recorder.write(["a request id that is cut off"])
    recorder.close()
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])

    assert read_record(path) is None
    path.write_bytes(b"")
    assert read_record(path) is None
