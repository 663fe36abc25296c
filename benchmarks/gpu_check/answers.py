"""Steps against the running server: each kind of answer, and what a client may do to one."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import httpx
import psutil

from gpu_check.steps import Facts, expect

CHAT = "/v1/chat/completions"
QUESTION = [{"role": "user", "content": "Count from one to twenty in words."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "old": {"type": "boolean"}},
    "required": ["city", "old"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": SCHEMA}}
PATIENCE = 120.0


class Server:
    """The server under test, asked as a client asks it. `pid` is its process."""

    def __init__(self, port: int, pid: int, model: str) -> None:
        self.pid = pid
        self.model = model
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)

    def body(self, **fields: Any) -> dict[str, Any]:
        common = {"model": self.model, "messages": QUESTION, "temperature": 0, "max_tokens": 64}
        return {**common, **fields}

    def ask(self, **fields: Any) -> dict[str, Any]:
        """A whole answer. Raises httpx.HTTPStatusError with the server's words."""
        response = self.http.post(CHAT, json=self.body(**fields))
        expect(response.status_code == 200, f"status {response.status_code}: {response.text}")
        answer: dict[str, Any] = response.json()
        return answer

    @contextmanager
    def stream(self, **fields: Any) -> Iterator[Iterator[str]]:
        """The texts of a stream's chunks."""
        body = self.body(stream=True, **fields)
        with self.http.stream("POST", CHAT, json=body) as response:
            expect(response.status_code == 200, f"status {response.status_code}")
            yield _texts(response)

    def num_running(self) -> float:
        health = self.http.get("/health").json()
        return float(health["stats"].get("num_running", 0)) + health["num_requests_in_flight"]

    def engine_pid(self) -> int:
        children = psutil.Process(self.pid).children()
        [engine] = [each.pid for each in children if "runtime.worker" in each.cmdline()]
        return engine


def chat(server: Server) -> Facts:
    """A whole answer and its usage."""
    start = time.perf_counter()
    answer = server.ask()
    text, usage = answer["choices"][0]["message"]["content"], answer["usage"]
    expect(bool(text), "an answer without text")
    expect(0 < usage["completion_tokens"] <= 64, f"usage {usage}")
    return {"text": text, "usage": usage, "seconds": time.perf_counter() - start}


def stream(server: Server) -> Facts:
    """The same answer in pieces, and when they came."""
    whole = server.ask()["choices"][0]["message"]["content"]
    start, times, pieces = time.perf_counter(), [], []
    with server.stream() as texts:
        for text in texts:
            times.append(time.perf_counter() - start)
            pieces.append(text)
    expect("".join(pieces) == whole, f"streamed {''.join(pieces)!r}, whole {whole!r}")
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return {"first_text_s": times[0], "longest_gap_s": max(gaps, default=0.0)}


def choices(server: Server) -> Facts:
    """Several answers to one prompt, numbered."""
    found = server.ask(n=3, temperature=1.0, max_tokens=16)["choices"]
    indices = [choice["index"] for choice in found]
    expect(indices == [0, 1, 2], f"indices {indices}")
    return {"different": len({choice["message"]["content"] for choice in found})}


def logprobs(server: Server) -> Facts:
    """A greedy answer's tokens are the likeliest ones."""
    answer = server.ask(logprobs=True, top_logprobs=3, max_tokens=16)
    entries = answer["choices"][0]["logprobs"]["content"]
    expect(len(entries) == answer["usage"]["completion_tokens"], f"{len(entries)} entries")
    greedy = [entry for entry in entries if entry["logprob"] >= entry["top_logprobs"][0]["logprob"]]
    share = len(greedy) / len(entries)
    expect(share > 0.8, f"{share:.0%} of the tokens are the likeliest")
    return {"likeliest": share, "first": entries[0]}


def schema(server: Server) -> Facts:
    """An answer that a JSON schema describes."""
    wanted = {"name": "city", "schema": SCHEMA, "strict": True}
    answer = server.ask(
        response_format={"type": "json_schema", "json_schema": wanted}, max_tokens=200
    )
    return {"answer": _object(answer["choices"][0]["message"]["content"])}


def tools(server: Server) -> Facts:
    """A call that has to be made."""
    answer = server.ask(tools=[TOOL], tool_choice="required", max_tokens=300)
    calls = answer["choices"][0]["message"].get("tool_calls") or []
    expect(bool(calls), f"no call: {answer['choices'][0]}")
    expect(calls[0]["function"]["name"] == "look_up", f"call {calls[0]}")
    return {"arguments": _object(calls[0]["function"]["arguments"])}


def abort(server: Server) -> Facts:
    """A client that leaves frees the engine."""
    with server.stream(max_tokens=1000, ignore_eos=True) as texts:
        next(texts)
    start = time.perf_counter()
    while server.num_running():
        expect(time.perf_counter() - start < 10, "the request still runs after 10 s")
    return {"seconds_until_idle": time.perf_counter() - start}


def kill(server: Server) -> Facts:
    """A stream survives its engine's death, with nothing missing and nothing twice."""
    asked: dict[str, Any] = {"max_tokens": 200, "ignore_eos": True}
    whole = server.ask(**asked)["choices"][0]["message"]["content"]
    pieces: list[str] = []
    start = killed = time.perf_counter()
    pause = 0.0
    with server.stream(**asked) as texts:
        for text in texts:
            if len(pieces) == 5:
                psutil.Process(server.engine_pid()).kill()
                killed = time.perf_counter()
            elif killed > start and not pause:
                pause = time.perf_counter() - killed
            pieces.append(text)
    text = "".join(pieces)
    same = _common_length(text, whole)
    expect(same > len("".join(pieces[:5])), f"after the restart: {text!r}, before: {whole!r}")
    return {"pause_s": pause, "same_characters": same, "characters": len(whole)}


def streams(server: Server, count: int) -> Facts:
    """Tokens a second of several streams together."""
    asked: dict[str, Any] = {"max_tokens": 128, "ignore_eos": True, "seed": 1}
    start = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(lambda _: server.ask(**asked), range(count)))
    seconds = time.perf_counter() - start
    num_tokens = sum(answer["usage"]["completion_tokens"] for answer in answers)
    expect(num_tokens == 128 * count, f"{num_tokens} tokens of {128 * count}")
    return {"streams": count, "tokens_per_second": num_tokens / seconds}


def _texts(response: httpx.Response) -> Iterator[str]:
    for line in response.iter_lines():
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        document = json.loads(line.removeprefix("data: "))
        expect("error" not in document, f"an error in the stream: {document}")
        for choice in document["choices"]:
            if content := choice["delta"].get("content"):
                yield content


def _object(text: str) -> Any:
    found = json.loads(text)
    expect(set(found) == {"city", "old"} and isinstance(found["old"], bool), f"{text!r}")
    return found


def _common_length(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
