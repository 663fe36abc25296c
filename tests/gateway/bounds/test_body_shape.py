"""What is counted before a body is decoded."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.bounds import body_shape
from gateway.bounds.body_shape import BodyLimits, BodyShape, measure, upper_bound
from runtime.errors import InvalidRequest

TEXTS = st.text(st.sampled_from('ab",[]{}:\\\n\u00e9\U0001f600'), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=30,
)


def shape_of(value: Any) -> BodyShape:
    """What `measure` should find, counted in the decoded value."""
    if isinstance(value, str):
        return BodyShape(1, 0)
    if not isinstance(value, list | dict):
        return BodyShape(0, 0)
    members = list(value) if isinstance(value, list) else [*value, *value.values()]
    shapes = [shape_of(member) for member in members]
    return BodyShape(
        1 + sum(shape.values for shape in shapes),
        max(len(value) - 1, 0) + sum(shape.entries for shape in shapes),
    )


@given(value=VALUES, ensure_ascii=st.booleans(), size=st.integers(1, 40))
def test_a_body_is_counted_as_it_decodes(value: Any, ensure_ascii: bool, size: int):
    body = json.dumps(value, ensure_ascii=ensure_ascii).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(body_shape, "_SLICE", size)
        found = measure(body)
    assert found == shape_of(value)
    bound = upper_bound(body)
    assert bound.values >= found.values
    assert bound.entries >= found.entries


@given(st.binary(max_size=60))
def test_what_is_not_json_is_counted_too(body: bytes):
    found, bound = measure(body), upper_bound(body)
    assert 0 <= found.entries <= bound.entries
    assert 0 <= found.values <= bound.values


@pytest.mark.parametrize(
    ("body", "setting"),
    [
        (b'["a","b","c","d"]', "max_body_values"),
        (b"[[],[],[],[]]", "max_body_values"),
        (b'{"a":{"b":{"c":1}}}', "max_body_values"),
        (b"[1,2,3,4,5,6,7]", "max_body_entries"),
    ],
)
def test_a_refusal_names_the_setting(body: bytes, setting: str):
    with pytest.raises(InvalidRequest, match=rf"\(server\.{setting}\)") as caught:
        BodyLimits(4, 5).check(body)
    assert caught.value.code == "request_too_large"


@pytest.mark.parametrize(
    "body", [b'[",,,,,,,,,,[[[[[[{{{{{{"]', b'["\\",\\",\\",\\",\\",\\",\\","]', b'["a","b","c"]']
)
def test_what_stands_in_a_text_does_not_count(body: bytes):
    BodyLimits(4, 5).check(body)
