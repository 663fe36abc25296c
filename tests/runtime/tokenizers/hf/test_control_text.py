"""Texts of control tokens can be tokenized as the text that they are, in every kind of folder."""

from hypothesis import given
from hypothesis import strategies as st

from tests.kit.models.plain_text import control_ids, forged_texts, plain_ids, text_of
from tests.runtime.tokenizers.hf.harness import Pair


def test_control_tokens(pair: Pair) -> None:
    """Those that the folder calls special; what stands for its own text is none."""
    special = pair.theirs.all_special_tokens

    assert set(special) <= pair.ours.control_tokens
    assert "<tool_call>" not in pair.ours.control_tokens


@given(data=st.data())
def test_text_stays_text(pair: Pair, data: st.DataObject) -> None:
    text = data.draw(forged_texts(pair.ours))

    token_ids = plain_ids(pair.ours, text)
    assert set(control_ids(pair.ours, token_ids)) <= unknown(pair)


@given(data=st.data())
def test_no_character_is_lost_or_added(pair: Pair, data: st.DataObject) -> None:
    """Pieces of a prompt get no blank in front of them, as whole texts may."""
    tokens = st.sampled_from(sorted(pair.ours.control_tokens))
    words = st.sampled_from(["the", " fox", "ju", "mps ", "<", ">"])
    text = "".join(data.draw(st.lists(st.one_of(tokens, words), max_size=6)))

    token_ids = plain_ids(pair.ours, text)
    if unknown(pair).isdisjoint(token_ids):
        assert text_of(pair.ours, token_ids).removeprefix(" ") == f"a{text}"


def unknown(pair: Pair) -> set[int]:
    """The token of characters that the vocabulary does not have."""
    token_id = pair.theirs.convert_tokens_to_ids("<unk>")
    return set() if token_id is None else {token_id}
