"""A query and a document as the one text that a reranker reads."""

from collections.abc import Sequence

from msgspec import Struct

from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.models.gguf import GGUFFile
from runtime.tokenizers.control_text import ControlTexts
from runtime.tokenizers.tokenizer import Tokenizer

_QUERY, _DOCUMENT = "{query}", "{document}"


class PairFormat(Struct, frozen=True):
    """How a model's two texts become one. With a `template` it is this text with `{query}` and
    `{document}` in it. Otherwise the ids `first`, `between` and `last` stand around the texts'."""

    template: str = ""
    first: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    last: tuple[int, ...] = ()


class Pair(Struct, frozen=True):
    """Two texts, and their places in the request, for errors."""

    query: str
    document: str
    query_place: str
    document_place: str


class Cut(Struct, frozen=True):
    """What the client allows to cut off a document's end: all behind its first `max_document`
    tokens, and what makes the pair longer than `max_pair`. None means that nothing is cut."""

    max_document: int | None = None
    max_pair: int | None = None


class PairEncoder:
    """Makes token ids of pairs. What looks like a control token in a text stays text."""

    def __init__(
        self, tokenizer: Tokenizer, control_texts: ControlTexts, pair_format: PairFormat
    ) -> None:
        self._tokenizer = tokenizer
        self._control_texts = control_texts
        self._format = pair_format

    def encode(self, pairs: Sequence[Pair], cut: Cut, most: int) -> list[list[int]]:
        """Raises InvalidRequest for a pair of more than `most` tokens, which names its document, or
        its query if that alone leaves no room."""
        if self._format.template:
            return [self._by_template(pair, cut, most) for pair in pairs]
        queries: dict[str, list[int]] = {}
        for pair in pairs:
            if pair.query not in queries:
                queries[pair.query] = self._plain(pair.query)
        return [self._by_tokens(pair, queries[pair.query], cut, most) for pair in pairs]

    def _by_tokens(self, pair: Pair, query: list[int], cut: Cut, most: int) -> list[int]:
        head = [*self._format.first, *query, *self._format.between]
        document = self._plain(pair.document)[: cut.max_document]
        room = _room(pair, len(head) + len(self._format.last), len(document), cut, most)
        return [*head, *document[:room], *self._format.last]

    def _by_template(self, pair: Pair, cut: Cut, most: int) -> list[int]:
        document = self._start(pair.document, cut.max_document)
        token_ids = self._filled(pair.query, document)
        limit = min(most, cut.max_pair or most)
        if len(token_ids) <= limit:
            return token_ids
        frame = len(self._filled(pair.query, ""))
        room = _room(pair, frame, len(token_ids) - frame, cut, most)
        while len(token_ids) > limit:  # the end of a text may have other tokens than its middle
            token_ids = self._filled(pair.query, self._start(document, room))
            room = max(0, room - max(0, len(token_ids) - limit))
        return token_ids

    def _filled(self, query: str, document: str) -> list[int]:
        """The ids of the template with these texts."""
        before, _, rest = self._format.template.partition(_QUERY)
        between, _, after = rest.partition(_DOCUMENT)
        pieces = [before]
        for text, follows in ((query, between), (document, after)):
            first, *others = self._control_texts.pattern.split(text)
            pieces[-1] += first
            pieces += others
            pieces[-1] += follows
        return self._control_texts.encode(pieces, add_special=False)

    def _plain(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special=False, parse_special=False)

    def _start(self, text: str, num_tokens: int | None) -> str:
        """The text of its first tokens, or all of it."""
        if num_tokens is None or len(token_ids := self._plain(text)) <= num_tokens:
            return text
        data = b"".join(map(self._tokenizer.token_bytes, token_ids[:num_tokens]))
        return data.decode("utf-8", "ignore")


def find_pair_format(file: GGUFFile, tokenizer: Tokenizer) -> PairFormat | None:
    """How a model file wants its pairs; None if it is no reranker.

    A template of the name "rerank" wins. Otherwise the tokens are those that the file adds to two
    texts: BERT's [SEP] between them, elsewhere an end and, if the file says so, a separator.
    """
    if not file.ranks:
        return None
    template = file.text("tokenizer.chat_template.rerank")
    if 0 <= template.find(_QUERY) < template.find(_DOCUMENT):
        return PairFormat(template)
    is_bert = file.text("tokenizer.ggml.model") == "bert"
    sep = file.number("tokenizer.ggml.seperator_token_id")
    eos = sep if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    first = _ids(file, "bos", tokenizer.bos_token_id, is_bert)
    if is_bert:
        return PairFormat("", first, _known(sep), _known(sep))
    end = _ids(file, "eos", eos, False)
    return PairFormat("", first, (*end, *_ids(file, "sep", sep, False)), end)


def _ids(file: GGUFFile, name: str, token_id: int | None, default: bool) -> tuple[int, ...]:
    """A token that the file adds to texts, if it does."""
    return _known(token_id) if file.flag(f"tokenizer.ggml.add_{name}_token", default) else ()


def _known(token_id: int | None) -> tuple[int, ...]:
    return () if token_id is None else (token_id,)


def _room(pair: Pair, num_others: int, num_document: int, cut: Cut, most: int) -> int:
    """How many tokens of the document are read."""
    limit = most if cut.max_pair is None else min(cut.max_pair, most)
    room = limit - num_others
    if room < min(1, num_document):
        raise InvalidRequest(
            f"`{pair.query_place}` leaves no room for a document: together with the tokens around"
            f" them it has {num_others} tokens, and {limit} are read. Shorten it.",
            param=pair.query_place,
            code="context_length_exceeded",
        )
    if num_document > room and cut.max_pair is None:
        where = pair.document_place
        raise ContextLengthExceeded(
            f"This model reads {most} tokens, and `{where}` has {num_document} beside a query of"
            f" {num_others}, counted with the tokens around them. Send the text in parts, or"
            " `truncate_prompt_tokens: -1` to have its end left out.",
            param=where,
        )
    return room
