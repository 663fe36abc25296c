"""Completions over real HTTP, on each engine."""

from tests.gateway.api.harness import without_identity
from tests.kit.chat.answers import TEXT
from tests.kit.serving import MODEL, text_of_chunks


def test_completion(client):
    answer = client.completions.create(model=MODEL, prompt="hi")

    assert answer.id.startswith("cmpl-")
    assert answer.object == "text_completion"
    assert answer.usage.completion_tokens == 16
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].logprobs is None


def test_prompts_of_every_kind(server):
    """Text and its token ids give the same; prompts and choices are numbered prompt * n + i."""
    ids = [256, *b"hi"]
    by_text = server.post(TEXT, prompt="hi", max_tokens=9).json()
    for prompt in (["hi"], ids, [ids]):
        answer = server.post(TEXT, prompt=prompt, max_tokens=9).json()
        assert without_identity(answer) == without_identity(by_text)

    other = server.post(TEXT, prompt="there", max_tokens=9).json()
    batch = server.post(TEXT, prompt=["hi", "there"], max_tokens=9, n=2).json()
    texts = [choice["text"] for choice in batch["choices"]]
    assert [choice["index"] for choice in batch["choices"]] == [0, 1, 2, 3]
    assert texts == [by_text["choices"][0]["text"]] * 2 + [other["choices"][0]["text"]] * 2
    assert batch["usage"]["prompt_tokens"] == 3 + 6

    chunks = server.chunks(TEXT, prompt=["hi", "there"], max_tokens=9, n=2)
    assert all(len(chunk["choices"]) == 1 for chunk in chunks)
    assert [text_of_chunks(chunks, index) for index in range(4)] == texts


def test_echo(server):
    plain = server.post(TEXT, prompt="hi", max_tokens=9).json()["choices"][0]["text"]
    for prompt in ("hi", [256, *b"hi"]):
        answer = server.post(TEXT, prompt=prompt, max_tokens=9, echo=True)
        assert answer.json()["choices"][0]["text"] == "hi" + plain
        chunks = server.chunks(TEXT, prompt=prompt, max_tokens=9, echo=True)
        assert text_of_chunks(chunks) == "hi" + plain


def test_echo_of_the_prompt_alone(server):
    answer = server.post(TEXT, prompt=["hi", "there"], max_tokens=0, echo=True).json()
    chunks = server.chunks(
        TEXT, prompt="hi", max_tokens=0, echo=True, stream_options={"include_usage": True}
    )

    assert [choice["text"] for choice in answer["choices"]] == ["hi", "there"]
    assert answer["usage"]["completion_tokens"] == 0
    assert text_of_chunks(chunks) == "hi"
    assert chunks[-1]["usage"]["total_tokens"] == 3


def test_empty_prompt_begins_a_text(server):
    assert server.post(TEXT, prompt="", max_tokens=1).json()["usage"]["prompt_tokens"] == 1


def test_long_prompts(server):
    """Past the length at which tokenising moves to a thread; past the context."""
    answer = server.post(TEXT, prompt="a" * 25_000, max_tokens=1)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
