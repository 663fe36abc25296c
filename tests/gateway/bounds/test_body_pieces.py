"""Bodies that come in pieces of any size."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gateway.bounds.body_pieces import BodyPieces

sizes = st.lists(st.sampled_from([0, 1, 7, 40_000, 65_535, 65_536, 200_000]), max_size=12)


@given(sizes)
def test_the_body_is_its_pieces_in_order(lengths: list[int]):
    sent = [bytes([number]) * length for number, length in enumerate(lengths, 1)]
    body = BodyPieces()
    for piece in sent:
        body.add(piece)
    assert body.num_bytes == sum(lengths)
    assert body.take() == b"".join(sent)
    assert body.take() == b""


def test_small_pieces_take_no_more_memory_than_their_bytes():
    body = BodyPieces()
    tracemalloc.start()
    try:
        for _ in range(400_000):
            body.add(b"12345")
        assert tracemalloc.get_traced_memory()[0] < 2_300_000
    finally:
        tracemalloc.stop()
