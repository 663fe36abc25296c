"""LiteLLM: its chats, and that it knows a prompt that is too long by the words of the error."""

import pytest

litellm = pytest.importorskip("litellm")

from compat_tests.conftest import MODEL


def ask(server, content, **fields):
    return litellm.completion(
        model=f"openai/{MODEL}",
        api_base=f"{server.url}/v1",
        api_key="none",
        messages=[{"role": "user", "content": content}],
        temperature=0,
        num_retries=0,
        **fields,
    )


def test_a_chat(server):
    answer = ask(server, "What is the capital of France?", max_tokens=16)
    chunks = list(ask(server, "What is the capital of France?", max_tokens=16, stream=True))

    assert "Paris" in answer.choices[0].message.content
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == answer.choices[0].message.content


def test_a_prompt_that_is_too_long(server):
    """LiteLLM's fallbacks and trimming start at this exception alone."""
    with pytest.raises(litellm.ContextWindowExceededError):
        ask(server, "word " * 40_000)
