"""Text comes out whole, whatever the tokens cut."""

import codecs

from hypothesis import given
from hypothesis import strategies as st

from runtime.text.detokenizer import Detokenizer
from runtime.tokenizers.byte_tokenizer import ByteTokenizer

TOKENIZER = ByteTokenizer()
TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=30)


def decode(pieces: list[list[int]]) -> str:
    detokenizer = Detokenizer(TOKENIZER)
    return "".join(map(detokenizer.push, pieces))


@given(TEXT)
def test_any_two_cuts_give_the_same_text(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special=False, parse_special=False)

    assert decode([[token_id] for token_id in ids]) == text
    for cut in range(len(ids) + 1):
        for other in range(cut, len(ids) + 1, 3):
            assert decode([ids[:cut], ids[cut:other], ids[other:]]) == text


@given(st.binary(max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_broken_bytes_become_replacement_characters(data: bytes, one: int, other: int) -> None:
    first, second = sorted((one, other))
    want = codecs.getincrementaldecoder("utf-8")("replace").decode(data)

    assert decode([list(data[:first]), list(data[first:second]), list(data[second:])]) == want
    assert decode([[byte] for byte in data]) == want


@given(TEXT)
def test_pieces_are_whole_characters(text: str) -> None:
    detokenizer = Detokenizer(TOKENIZER)

    sent = ""
    for byte in text.encode():
        sent += detokenizer.push([byte])
        assert text.startswith(sent)
    assert sent == text


@given(TEXT, st.integers(0, 120))
def test_a_character_that_is_cut_off_has_no_text(text: str, end: int) -> None:
    data = text.encode()[:end]

    assert decode([[byte] for byte in data]) == data.decode(errors="ignore")


def test_half_a_character_waits_and_then_is_replaced() -> None:
    detokenizer = Detokenizer(TOKENIZER)

    assert detokenizer.push(list("é".encode()[:1])) == ""
    assert detokenizer.push([65]) == "\ufffdA"


def test_control_tokens_have_no_text() -> None:
    assert decode([[65, TOKENIZER.im_end_token_id, 66, TOKENIZER.eos_token_id]]) == "AB"
