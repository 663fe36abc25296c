"""The clients that people use, on the real model."""

import json
import re
import subprocess
from pathlib import Path

import openai
import pytest
from langchain_openai import ChatOpenAI

from compat_tests.conftest import MODEL, Server
from tests.kit.openai.schemas import (
    check_chat,
    check_chat_chunk,
    check_completion,
    check_error,
    check_response,
)

PARIS = [{"role": "user", "content": "What is the capital of France? Answer in one sentence."}]


@pytest.fixture
def client(server: Server):
    with openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",
        max_retries=0,
        _strict_response_validation=True,
    ) as client:
        yield client


def as_sent(model):
    """What the server sent: the client keeps every field, and knows which it did not get."""
    return model.model_dump(mode="json", exclude_unset=True)


def test_openai_chats(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=PARIS, temperature=0, max_tokens=24
    )

    check_chat(as_sent(answer))
    assert "Paris" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_openai_streams_what_it_says_whole(client):
    whole = client.chat.completions.create(
        model=MODEL, messages=PARIS, temperature=0, max_tokens=16
    )
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=PARIS,
            temperature=0,
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        )
    )

    for chunk in chunks:
        check_chat_chunk(as_sent(chunk))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    # the prompt of the second one is known already, but for its last token
    cached = chunks[-1].usage.prompt_tokens_details.cached_tokens
    assert cached == whole.usage.prompt_tokens - 1
    assert len(chunks) > 5


def test_openai_completes_code(client):
    answer = client.completions.create(
        model=MODEL, prompt="def add(a, b):\n    return", temperature=0, max_tokens=6
    )

    check_completion(as_sent(answer))
    assert "a + b" in answer.choices[0].text


def test_openai_fills_in_the_middle(client):
    """What is needed shows only behind the gap."""
    answer = client.completions.create(
        model=MODEL,
        prompt="def size(width, height):\n    ",
        suffix="\n    return area\n",
        temperature=0,
        max_tokens=16,
    )

    assert answer.choices[0].text.startswith("area = width * height")


def test_openai_sees_how_likely_each_token_was(server, client):
    """Multi-byte characters included; a prompt is scored as its tokens were when written."""
    chat = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Say: Grüße, 狐狸 🦊"}],
        max_tokens=16,
        temperature=0,
        logprobs=True,
        top_logprobs=2,
    )
    check_chat(as_sent(chat))
    content = chat.choices[0].logprobs.content
    joined = b"".join(bytes(entry.bytes or []) for entry in content).decode(errors="replace")
    assert joined == chat.choices[0].message.content
    assert len(content) == chat.usage.completion_tokens
    assert all(entry.logprob == entry.top_logprobs[0].logprob for entry in content)

    written = client.completions.create(
        model=MODEL, prompt="The capital of", temperature=0, max_tokens=8, logprobs=1
    )
    # The client's strict types do not know that the first token of an echo has null.
    scored = server.http.post(
        "/v1/completions",
        json={
            "model": MODEL,
            "prompt": "The capital of" + written.choices[0].text,
            "max_tokens": 0,
            "echo": True,
            "logprobs": 1,
        },
    ).json()["choices"][0]["logprobs"]
    assert scored["tokens"][3:] == written.choices[0].logprobs.tokens
    assert scored["token_logprobs"][0] is None
    assert scored["token_logprobs"][3:] == pytest.approx(
        written.choices[0].logprobs.token_logprobs, abs=0.5
    )


def test_openai_sees_the_right_exceptions(client):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-none", messages=PARIS)
    with pytest.raises(openai.BadRequestError) as too_hot:
        client.chat.completions.create(model=MODEL, messages=PARIS, temperature=3)
    with pytest.raises(openai.BadRequestError) as too_long:
        client.completions.create(model=MODEL, prompt=[10] * 40_000)

    for caught in (unknown, too_hot, too_long):
        check_error(caught.value.response.json())
    assert unknown.value.code == "model_not_found"
    assert too_hot.value.param == "temperature"
    assert too_long.value.code == "context_length_exceeded"


def test_a_seed_repeats_an_answer(client):
    def say(seed: int) -> str:
        answer = client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Invent a name for a ship."}],
            temperature=1.5,
            max_tokens=12,
            seed=seed,
        )
        return answer.choices[0].message.content

    say(0)  # from here on the prompt comes from the cache: computed alike, rounded alike
    assert say(7) == say(7)
    assert len({say(seed) for seed in range(4)}) > 1


def test_langchain_chats_and_streams(server):
    model = ChatOpenAI(
        base_url=f"{server.url}/v1", api_key="none", model=MODEL, temperature=0, max_tokens=24
    )

    assert "Paris" in model.invoke(PARIS).content
    assert "Paris" in "".join(chunk.content for chunk in model.stream(PARIS))


def test_the_readme_curl(server):
    """The command of the README, word for word but for the port."""
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    command = re.findall(r"^```sh\n(curl .*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)[0]
    command = command.replace("http://localhost:8000", server.url)

    output = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, check=True, timeout=60
    ).stdout

    assert len(json.loads(output)["choices"][0]["message"]["content"]) > 10


def test_openai_answers_fit_their_schema(client):
    """In one piece and as a stream; the schema decides what a small model would not."""
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "capital": {"type": "boolean"}},
        "required": ["city", "capital"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "city", "schema": schema}}
    asked = {"model": MODEL, "messages": PARIS, "temperature": 0, "max_tokens": 40}

    answer = client.chat.completions.create(**asked, response_format=wanted)
    chunks = client.chat.completions.create(**asked, response_format=wanted, stream=True)

    check_chat(as_sent(answer))
    text = answer.choices[0].message.content
    assert json.loads(text) == {"city": "Paris", "capital": json.loads(text)["capital"]}
    assert isinstance(json.loads(text)["capital"], bool)
    assert answer.choices[0].finish_reason == "stop"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_openai_responses(client):
    """In one piece and as a stream, strictly read."""
    asked = {"model": MODEL, "input": PARIS, "temperature": 0, "max_output_tokens": 24}
    answer = client.responses.create(**asked)
    with client.responses.stream(**asked) as stream:
        for event in stream:
            if event.type == "response.output_text.delta":
                assert event.snapshot
        final = stream.get_final_response()

    check_response(as_sent(answer))
    assert "Paris" in answer.output_text
    assert final.output_text == answer.output_text
    assert (answer.status, answer.store) == ("completed", True)
    assert client.responses.retrieve(answer.id) == answer
