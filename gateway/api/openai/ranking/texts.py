"""From the bodies of rerank and score to pairs of texts. Pure."""

from msgspec import Struct

from gateway.api.openai.ranking.protocol import (
    MAX_PAIRS,
    RankingRequest,
    RerankRequest,
    ScoreRequest,
    Text,
    TextDocument,
    Texts,
)
from gateway.models.pairs import Cut, Pair
from runtime.errors import InvalidRequest


class Comparison(Struct, frozen=True):
    """Pairs of texts to compare, at least one. With `has_roles` the client has said which texts are
    queries and which are documents."""

    pairs: list[Pair]
    cut: Cut
    has_roles: bool
    is_raw: bool


def reranked(data: RerankRequest) -> Comparison:
    """The query with each document. Raises InvalidRequest."""
    query = _text(data.query)
    places = [f"documents[{index}]" for index in range(len(data.documents))]
    pairs = [
        Pair(query, _text(document), "query", place)
        for document, place in zip(data.documents, places, strict=True)
    ]
    if not pairs:
        raise InvalidRequest("`documents` is an empty list.", param="documents")
    return _comparison(data, pairs, "documents", has_roles=True)


def scored(data: ScoreRequest) -> Comparison:
    """One text with each of the others, or the texts of two lists one by one. Raises
    InvalidRequest."""
    first_name, second_name = _names(data)
    first = _listed(first_name, getattr(data, first_name))
    second = _listed(second_name, getattr(data, second_name))
    if len(first) == 1:
        first *= len(second)
    if len(first) != len(second):
        raise InvalidRequest(
            f"`{first_name}` has {len(first)} texts and `{second_name}` has {len(second)}: send"
            f" as many of both, or one text in `{first_name}`.",
            param=second_name,
        )
    pairs = [Pair(a, b, at, to) for (a, at), (b, to) in zip(first, second, strict=True)]
    return _comparison(data, pairs, second_name, has_roles=second_name == "documents")


def _comparison(
    data: RankingRequest, pairs: list[Pair], where: str, *, has_roles: bool
) -> Comparison:
    if len(pairs) > MAX_PAIRS:
        raise InvalidRequest(
            f"`{where}` has {len(pairs)} texts; a request may have {MAX_PAIRS}. Send several"
            " requests.",
            param=where,
        )
    for pair in pairs:
        if not pair.query:
            where = pair.query_place
            raise InvalidRequest(f"`{where}` is empty: there is nothing to compare.", param=where)
    return Comparison(pairs, _cut(data), has_roles, data.use_activation is False)


def _cut(data: RankingRequest) -> Cut:
    most = data.truncate_prompt_tokens
    if most == 0:
        raise InvalidRequest(
            "`truncate_prompt_tokens` is 0: send how many tokens of a pair are read, or -1 for as"
            " many as the model reads.",
            param="truncate_prompt_tokens",
        )
    max_pair = 2**31 if most == -1 else most
    return Cut(max_document=data.max_tokens_per_doc, max_pair=max_pair)


def _names(data: ScoreRequest) -> tuple[str, str]:
    """The two fields that have texts."""
    all_names = ("text_1", "text_2", "queries", "documents")
    sent = tuple(name for name in all_names if getattr(data, name) is not None)
    if sent == all_names[:2] or sent == all_names[2:]:
        return sent[0], sent[1]
    raise InvalidRequest(
        "Send `text_1` and `text_2`, or `queries` and `documents`.",
        param=sent[0] if sent else "text_1",
        code="invalid_value" if sent else "missing_required_parameter",
    )


def _listed(name: str, texts: Texts) -> list[tuple[str, str]]:
    """The texts of a field, each with its place."""
    if not isinstance(texts, list):
        listed = [(_text(texts), name)]
    else:
        listed = [(_text(each), f"{name}[{index}]") for index, each in enumerate(texts)]
    if not listed:
        raise InvalidRequest(f"`{name}` is an empty list.", param=name)
    return listed


def _text(text: Text) -> str:
    return text.text if isinstance(text, TextDocument) else text
