"""What a reranker reads of a query and a document."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.models.pairs import Cut, Pair, PairEncoder, PairFormat, find_pair_format
from runtime.errors import InvalidRequest
from runtime.models.gguf import GGUFFile, GGUFValue, read_gguf
from runtime.tokenizers.control_text import ControlTexts
from runtime.tokenizers.load import load_tokenizer
from runtime.tokenizers.tokenizer import Tokenizer
from tests.kit.engines import needs_llama_library
from tests.kit.models.tiny_encoder import CLS, SEP, write_tiny_encoder
from tests.kit.models.tiny_model import RANKING_TEMPLATE, write_tiny_model

needs_llama_library()

MOST = 200
WHOLE = Cut()
TEXTS = st.text(max_size=40) | st.sampled_from(["<|im_end|>", "a <|im_start|> b", "the fox [SEP]"])


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("model") / "reranker.gguf"
    return load_tokenizer(write_tiny_model(path, architecture="qwen3", ranks=True))


def encoder(tokenizer: Tokenizer, pair_format: PairFormat) -> PairEncoder:
    return PairEncoder(tokenizer, ControlTexts(tokenizer), pair_format)


def a_pair(query: str, document: str) -> Pair:
    return Pair(query, document, "query", "documents[0]")


def plain(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special=False, parse_special=False)


@given(query=TEXTS, document=TEXTS)
def test_a_template_is_filled_and_texts_stay_text(tokenizer: Tokenizer, query: str, document: str):
    """The only control tokens are those of the template, whatever the texts are."""
    by_template = encoder(tokenizer, PairFormat(RANKING_TEMPLATE))
    [token_ids] = by_template.encode([a_pair(query, document)], WHOLE, 10_000)

    shown = b"".join(
        tokenizer.token_bytes(each) or tokenizer.token_name(each).encode() for each in token_ids
    )
    whole = RANKING_TEMPLATE.replace("{query}", query).replace("{document}", document)
    if "{document}" not in query:
        assert shown.decode() == whole
    control = {tokenizer.token_name(each) for each in token_ids if not tokenizer.token_bytes(each)}
    names = [tokenizer.token_name(each) for each in token_ids if not tokenizer.token_bytes(each)]
    assert control == {"<|im_start|>", "<|im_end|>"}
    assert len(names) == 3


@given(query=TEXTS, document=TEXTS)
def test_tokens_stand_around_the_texts(tokenizer: Tokenizer, query: str, document: str):
    around = encoder(tokenizer, PairFormat("", (1,), (2, 3), (4, 5)))
    [token_ids] = around.encode([a_pair(query, document)], WHOLE, 10_000)

    texts = [plain(tokenizer, query), plain(tokenizer, document)]
    assert token_ids == [1, *texts[0], 2, 3, *texts[1], 4, 5]


@pytest.mark.parametrize("pair_format", [PairFormat(RANKING_TEMPLATE), PairFormat("", (1,), (2,))])
@given(
    document=st.text("abc 狐狸é", max_size=300),
    max_document=st.none() | st.integers(1, 100),
    max_pair=st.none() | st.integers(60, 300),
)
def test_only_as_much_is_left_out_as_the_client_allows(
    tokenizer: Tokenizer,
    pair_format: PairFormat,
    document: str,
    max_document: int | None,
    max_pair: int | None,
):
    pairs = encoder(tokenizer, pair_format)
    pair, limit = a_pair("the fox", document), min(MOST, max_pair or MOST)
    [whole] = pairs.encode([pair], Cut(max_document), 10_000)
    if max_pair is None and len(whole) > MOST:
        with pytest.raises(InvalidRequest) as caught:
            pairs.encode([pair], Cut(max_document), MOST)
        assert caught.value.param == "documents[0]"
        return
    [token_ids] = pairs.encode([pair], Cut(max_document, max_pair), MOST)

    assert len(token_ids) <= limit
    if len(whole) <= limit:
        assert token_ids == whole
    if len(plain(tokenizer, document)) <= (max_document or 1000):
        assert [whole] == pairs.encode([pair], WHOLE, 10_000)


def test_a_query_that_leaves_no_room_is_named(tokenizer: Tokenizer):
    pairs = encoder(tokenizer, PairFormat(RANKING_TEMPLATE))
    with pytest.raises(InvalidRequest, match="leaves no room") as caught:
        pairs.encode([a_pair("x" * 500, "a")], Cut(max_pair=MOST), MOST)
    assert caught.value.param == "query"


def a_file(**tokens: GGUFValue) -> GGUFFile:
    metadata: dict[str, GGUFValue] = {"general.architecture": "bert", "bert.pooling_type": 4}
    metadata |= {f"tokenizer.{key.replace('__', '.')}": value for key, value in tokens.items()}
    return GGUFFile("", 3, 32, 0, metadata, ())


ROBERTA = {
    "ggml__model": "t5",
    "ggml__seperator_token_id": 7,
    "ggml__add_bos_token": True,
    "ggml__add_eos_token": True,
}


def test_the_file_says_how_pairs_look(tokenizer: Tokenizer, tmp_path: Path):
    """XLM-RoBERTa's pairs have an end and a separator between the texts."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert bos is not None
    assert eos is not None
    with_sep = find_pair_format(a_file(**ROBERTA, ggml__add_sep_token=True), tokenizer)
    assert with_sep == PairFormat("", (bos,), (eos, 7), (eos,))
    assert find_pair_format(a_file(**ROBERTA), tokenizer) == PairFormat("", (bos,), (eos,), (eos,))
    templated = a_file(**ROBERTA, chat_template__rerank=RANKING_TEMPLATE)
    assert find_pair_format(templated, tokenizer) == PairFormat(RANKING_TEMPLATE)
    unusable = a_file(**ROBERTA, chat_template__rerank="{document} {query}")
    assert find_pair_format(unusable, tokenizer) == PairFormat("", (bos,), (eos,), (eos,))


@pytest.mark.parametrize(("pooling", "ranks"), [("rank", True), ("mean", False)])
def test_a_berts_pairs(tmp_path: Path, pooling: str, ranks: bool):
    path = tmp_path / "encoder.gguf"
    write_tiny_encoder(path, "rank" if pooling == "rank" else "mean")
    found = find_pair_format(read_gguf(path), load_tokenizer(path))

    assert found == (PairFormat("", (CLS,), (SEP,), (SEP,)) if ranks else None)
