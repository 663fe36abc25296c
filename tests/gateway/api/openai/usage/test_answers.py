"""Buckets and groups of sums, as JSON and as CSV."""

import csv
import io
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.openai.usage.answers import GROUPS, written, written_csv
from gateway.api.openai.usage.buckets import spans_of
from gateway.api.openai.usage.protocol import CompletionsParams, EmbeddingsParams, UsageParams
from gateway.store.usage import Counts, UsageKey
from gateway.usage.ledger import Sums, selected
from gateway.usage.periods import HOUR
from runtime.errors import InvalidRequest

NOW = 200 * HOUR + 17.5
ENCODERS = ("/v1/embeddings", "/v2/rerank")
COUNTS = (
    *("num_model_requests", "input_tokens", "input_cached_tokens", "output_tokens"),
    "output_reasoning_tokens",
)

SUMS = st.dictionaries(
    st.builds(
        UsageKey,
        st.integers(0, 200).map(lambda hour: hour * HOUR),
        st.sampled_from(["ann", "bob"]),
        st.sampled_from(["m", 'a "model", or\ntwo', "狐狸"]),
        st.sampled_from(["/v1/chat/completions", "/generate", *ENCODERS]),
        st.booleans(),
    ),
    st.builds(Counts, *[st.integers(0, 99)] * 5),
    max_size=30,
)
TIMES = {
    "start_time": st.integers(0, 200 * HOUR),
    "end_time": st.none() | st.integers(200 * HOUR + 1, 201 * HOUR),
    "bucket_width": st.sampled_from(["1h", "1d"]),
    "limit": st.integers(1, 31),
}
GROUPINGS = st.lists(st.sampled_from(["project_id", *GROUPS]), max_size=5)
COMPLETIONS = st.builds(CompletionsParams, group_by=GROUPINGS, **TIMES)


def pages(sums: Sums, params: UsageParams) -> list[Any]:
    """All pages, each asked for with the cursor of the one before."""
    found: list[Any] = []
    while True:
        spans = spans_of(params, NOW)
        inside = selected(spans.query(None), sums)
        found.append(msgspec.json.decode(written(inside, params, spans, None)))
        assert found[-1]["has_more"] == (found[-1]["next_page"] is not None)
        if not found[-1]["has_more"]:
            return found
        params = msgspec.structs.replace(params, page=found[-1]["next_page"])


def told(sums: Sums, params: UsageParams) -> list[int]:
    """The sum over all results of all buckets of all pages."""
    results = [
        result
        for page in pages(sums, params)
        for bucket in page["data"]
        for result in bucket["results"]
    ]
    return [sum(each.get(name, 0) for each in results) for name in COUNTS]


@given(sums=SUMS, params=COMPLETIONS)
def test_any_grouping_and_any_buckets_sum_up_to_the_same(
    sums: Sums, params: CompletionsParams
) -> None:
    first = params.start_time // HOUR * HOUR
    inside = {key: each for key, each in sums.items() if key.hour >= first}
    of_texts = {key: each for key, each in inside.items() if key.endpoint in ENCODERS}
    texts = sum(of_texts.values(), Counts())
    others = sum((each for key, each in inside.items() if key not in of_texts), Counts())
    assert told(sums, params) == [
        *(others.num_requests, others.input_tokens, others.cached_tokens),
        *(others.output_tokens, others.reasoning_tokens),
    ]
    embeddings = EmbeddingsParams(
        start_time=params.start_time,
        bucket_width=params.bucket_width,
        group_by=[name for name in params.group_by if name != "batch"],
    )
    assert told(sums, embeddings)[:2] == [texts.num_requests, texts.input_tokens]


@given(params=COMPLETIONS)
def test_buckets_partition_time(params: CompletionsParams) -> None:
    seconds = {"1h": HOUR, "1d": 24 * HOUR}[params.bucket_width]
    all_pages = pages({}, params)
    buckets = [bucket for page in all_pages for bucket in page["data"]]
    assert buckets[0]["start_time"] == params.start_time // HOUR * HOUR
    assert buckets[-1]["end_time"] == 201 * HOUR
    for earlier, later in pairwise(buckets):
        assert earlier["end_time"] == later["start_time"]
        assert later["start_time"] % seconds == 0
    assert all(0 < each["end_time"] - each["start_time"] <= seconds for each in buckets)
    assert all(len(page["data"]) == params.limit for page in all_pages[:-1])
    assert len(all_pages[-1]["data"]) <= (params.limit or 0)


def _read_csv(table: bytes) -> list[Any]:
    def value(name: str, text: str) -> Any:
        if name.endswith("_time"):
            return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z").timestamp())
        if name == "batch":
            return {"true": True, "false": False}[text]
        return text if name in GROUPS else int(text)

    lines = csv.DictReader(io.StringIO(table.decode(), newline=""))
    return [{name: value(name, text) for name, text in line.items()} for line in lines]


@given(sums=SUMS, params=COMPLETIONS)
def test_csv_says_the_same(sums: Sums, params: CompletionsParams) -> None:
    spans = spans_of(params, NOW)
    inside = selected(spans.query(None), sums)
    page = msgspec.json.decode(written(inside, params, spans, None))
    lines = _read_csv(written_csv(inside, params, spans))
    assert lines == [
        {name: {**bucket, **result}[name] for name in lines[0]}
        for bucket in page["data"]
        for result in bucket["results"]
    ]


@given(sums=SUMS, params=COMPLETIONS)
def test_filters_select(sums: Sums, params: CompletionsParams) -> None:
    wanted = msgspec.structs.replace(
        params,
        group_by=["api_key_id", "model", "batch"],
        models=["m"],
        api_key_ids=["ann", "nobody"],
        batch=True,
    )
    for page in pages(sums, wanted):
        for bucket in page["data"]:
            for each in bucket["results"]:
                assert (each["api_key_id"], each["model"], each["batch"]) == ("ann", "m", True)


def test_an_hour_that_begins_later_is_an_empty_bucket() -> None:
    spans = spans_of(CompletionsParams(start_time=500 * HOUR), NOW)
    assert list(spans.edges) == [500 * HOUR, 501 * HOUR]


@pytest.mark.parametrize("page", ["page_0", "page_3601", "page_720000", "page_999999999999"])
def test_cursors_that_were_made_up(page: str) -> None:
    params = CompletionsParams(start_time=0, end_time=720_000, bucket_width="1h", page=page)
    with pytest.raises(InvalidRequest) as caught:
        spans_of(params, NOW)
    assert caught.value.param == "page"


def test_the_first_day_is_cut_to_what_was_asked_for() -> None:
    day = 24 * HOUR
    spans = spans_of(CompletionsParams(start_time=30 * HOUR + 5, end_time=3 * day + 1), NOW)
    assert list(spans.edges) == [30 * HOUR, 2 * day, 3 * day, 3 * day + HOUR]
    assert datetime.fromtimestamp(spans.edges[0], UTC).hour == 6
