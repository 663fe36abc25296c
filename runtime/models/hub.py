"""Downloads from the Hugging Face hub."""

import os
import socket
import ssl
import threading
import urllib.error
import urllib.request

from runtime.errors import PullError
from runtime.models.sources import (
    Fetch,
    HubFile,
    describe,
    watched,
)

_REACH_TIMEOUT = 3.0


# The hub


def fetch_from_hub(source: HubFile, job: Fetch) -> None:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    job.progress(0, job.size, describe(source))
    if not constants.HF_HUB_OFFLINE:
        _check_reachable(constants.ENDPOINT)
    disable_progress_bars()
    folder = job.scratch / "hub"
    with watched(folder, 0, job, describe(source)):
        try:
            path = hf_hub_download(
                source.repo_id, source.file, revision=source.revision, local_dir=folder
            )
        except Exception as error:
            # the hub's client raises its own errors, its HTTP library's and the system's; for the
            # store they all mean that the next source is to be tried
            raise PullError(_first_line(error)) from error
    os.replace(path, job.part)


def _check_reachable(url: str) -> None:
    """The hub's client tries for half a minute before it gives up; this asks once."""
    failures: list[str] = []
    # a thread, because no timeout covers the resolving of names
    probe = threading.Thread(target=_probe, args=(url, failures), daemon=True)
    probe.start()
    probe.join(2 * _REACH_TIMEOUT)
    if probe.is_alive():
        failures.append("no answer")
    if failures:
        raise PullError(f"out of reach ({failures[0]})")


def _probe(url: str, failures: list[str]) -> None:
    request = urllib.request.Request(url, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_REACH_TIMEOUT).close()
    except urllib.error.HTTPError as error:
        error.close()  # an answer is an answer
    except urllib.error.URLError as error:
        # the hub's client has certificates of its own
        if not isinstance(error.reason, ssl.SSLError):
            failures.append(_first_line(error.reason))
    except (OSError, ValueError) as error:
        failures.append(_first_line(error))


def _first_line(error: object) -> str:
    if isinstance(error, socket.gaierror):
        return "its address cannot be resolved"
    if isinstance(error, TimeoutError):
        return "no answer"
    return (str(error).strip() or type(error).__name__).splitlines()[0]
