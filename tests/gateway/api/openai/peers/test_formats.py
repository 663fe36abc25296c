"""Log-probabilities, formats and embeddings, as users of other servers expect them."""

import array
import base64
import json
import math
from typing import Any

import pytest
from openai import OpenAI
from pydantic import BaseModel

from tests.kit.chat.answers import CHAT, RESPONSES, TEXT
from tests.kit.engines import needs_llama_library
from tests.kit.openai.peers import body_of, good, refused, streamed_or_not
from tests.kit.serving import (
    MODEL,
    RunningServer,
)

needs_llama_library()


@pytest.mark.parametrize("num_top", [0, 1, 5, 20])
@streamed_or_not
def test_as_many_likeliest_tokens_as_were_asked_for(
    tiny_server: RunningServer, num_top: int, stream: bool
):
    """Each no more likely than the one before; finite, never positive; -9999 at the lowest."""
    fields = {"logprobs": True, "top_logprobs": num_top, "max_tokens": 6, "ignore_eos": True}
    if stream:
        choices = [
            c
            for chunk in tiny_server.chunks(CHAT, **body_of(CHAT, **fields))
            for c in chunk["choices"]
        ]
        told = [entry for c in choices if c["logprobs"] for entry in c["logprobs"]["content"]]
    else:
        told = good(tiny_server, **fields)["choices"][0]["logprobs"]["content"]
    assert len(told) == 6
    for entry in told:
        values = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(values) == num_top
        assert values == sorted(values, reverse=True)
        for value in (entry["logprob"], *values):
            assert math.isfinite(value)
            assert -9999 <= value <= 0


@streamed_or_not
def test_too_many_likeliest_tokens(server: RunningServer, stream: bool):
    for path, fields in ((CHAT, {"logprobs": True, "top_logprobs": 21}), (TEXT, {"logprobs": 6})):
        error = refused(server, path, stream=stream, **fields)
        assert error["param"] in ("top_logprobs", "logprobs")


def test_any_object(tiny_server: RunningServer):
    answer = good(
        tiny_server,
        response_format={"type": "json_object"},
        n=8,
        max_tokens=200,
        seed=3,
        temperature=1.5,
    )
    texts = [c["message"]["content"] for c in answer["choices"] if c["finish_reason"] == "stop"]

    assert texts
    assert all(isinstance(json.loads(text), dict) for text in texts)


@streamed_or_not
@pytest.mark.parametrize(
    "fields",
    [
        {"guided_regex": "("},
        {"guided_grammar": "start: nobody"},
        {"guided_json": {"type": "strin"}},
        {"structured_outputs": {"regex": "[z-a]"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}},
        {"response_format": {"type": "yaml"}},
    ],
)
def test_what_nobody_can_enforce_is_refused(
    tiny_server: RunningServer, fields: dict[str, Any], stream: bool
):
    assert refused(tiny_server, stream=stream, **fields)["param"].startswith(next(iter(fields)))


class Flip(BaseModel):
    heads: bool
    times: int


def test_the_official_client_parses_into_a_type(tiny_server: RunningServer):
    with OpenAI(base_url=f"{tiny_server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.parse(
            model=MODEL,
            messages=[{"role": "user", "content": "hi"}],
            response_format=Flip,
            seed=1,
            temperature=0,
            max_tokens=200,
            logit_bias={str(token): -20 for token in map(ord, "0123456789")},
        )
    assert isinstance(answer.choices[0].message.parsed, Flip)


def test_embeddings_have_length_one_and_keep_their_order(server: RunningServer):
    """In numbers and in base64, for texts, token ids, one and many; and usage counts them."""
    texts = ["one", "two", "one"]

    def vectors(**body: Any) -> list[list[float]]:
        answer = server.post("/v1/embeddings", **body).json()
        assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
        assert [entry["index"] for entry in answer["data"]] == list(range(len(answer["data"])))
        return [entry["embedding"] for entry in answer["data"]]

    one, two, again = vectors(input=texts)
    assert math.hypot(*one) == pytest.approx(1, abs=1e-6)
    assert one == again != two
    assert vectors(input="two") == [two]
    packed = vectors(input=texts, encoding_format="base64")
    floats = [list(array.array("f", base64.b64decode(text))) for text in packed]  # type: ignore[arg-type]
    assert floats == [one, two, one]
    ids = server.post("/tokenize", prompt="one").json()["tokens"]
    assert vectors(input=[ids, ids]) == [one, one] == vectors(input=[ids]) * 2


def test_events_of_a_response_speak_of_the_same_things(server: RunningServer):
    """One id for the response, one for the message, in order, and the joined text is the whole."""
    text = server.post(RESPONSES, input="hi", stream=True, max_output_tokens=90).text
    events = [json.loads(each.partition("\ndata: ")[2]) for each in text[:-2].split("\n\n")]
    kinds = [event["type"].removeprefix("response.") for event in events]
    deltas = [event["delta"] for event in events if event["type"].endswith("text.delta")]

    assert kinds[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert set(kinds[4:-4]) == {"output_text.delta"}
    assert kinds[-4:-1] == ["output_text.done", "content_part.done", "output_item.done"]
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1
    items = {event["item"]["id"] for event in events if "item" in event}
    assert items == {event["item_id"] for event in events if "item_id" in event}
    assert len(items) == 1
    assert "".join(deltas) == events[-1]["response"]["output"][0]["content"][0]["text"]
