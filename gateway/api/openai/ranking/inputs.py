"""What the engine is given for a comparison, and the scores of what it returns."""

import asyncio
import math
from array import array
from collections.abc import Sequence
from operator import mul

from msgspec import Struct

from gateway.api.openai.ranking.protocol import MAX_TOKENS
from gateway.api.openai.ranking.texts import Comparison
from gateway.models.pairs import Cut
from gateway.models.prompts import TextPrompts
from gateway.models.served_model import ServedModel
from gateway.settings.schema import TextRole
from runtime.errors import ContextLengthExceeded, InvalidRequest
from runtime.messages.engine import EngineLimits, Scoring
from runtime.tokenizers.control_text import Around

MULTIPLIED_NUMBERS = 100_000
"""Numbers that are multiplied at once, in a few milliseconds: then others have their turn."""

DECIMALS = 6
"""Places to which scores are compared."""


class ComparedInputs(Struct, frozen=True):
    """The texts for the engine, as token ids. Pair k is text k, or with `sides` the two texts that
    these numbers name."""

    token_lists: list[list[int]]
    sides: list[tuple[int, int]] | None = None


async def compared_inputs(
    comparison: Comparison, model: ServedModel, limits: EngineLimits
) -> ComparedInputs:
    """Raises InvalidRequest for texts that are too long, and for what a model cannot do."""
    if comparison.is_raw and limits.scoring == "probability":
        raise InvalidRequest(
            "`use_activation` is not supported with this model, whose scores are probabilities.",
            param="use_activation",
            code="unsupported_value",
        )
    most = limits.max_embedding_len
    if limits.ranks:
        token_lists = await model.encode_pairs(comparison.pairs, comparison.cut, most)
        inputs = ComparedInputs(token_lists)
    else:
        inputs = await _each_text(comparison, model, most)
    num_tokens = sum(map(len, inputs.token_lists))
    if num_tokens > MAX_TOKENS:
        raise InvalidRequest(
            f"The texts of this request have {num_tokens} tokens together; a request may have"
            f" {MAX_TOKENS}. Send several requests.",
            param=_list_of(comparison.pairs[0].document_place),
            code="max_tokens_per_request",
        )
    return inputs


def best_first(scores: Sequence[float]) -> list[int]:
    """The places of the scores, the highest first. Scores that are equal to `DECIMALS` places are
    equal and keep their order: beyond that they depend on what else is in a batch."""
    return sorted(range(len(scores)), key=lambda place: -round(scores[place], DECIMALS))


async def scores_of(
    vectors: Sequence[bytes], inputs: ComparedInputs, scoring: Scoring, *, is_raw: bool
) -> list[float]:
    """The scores of all pairs: cosines from -1 to 1, a reranker's from 0 to 1, or its own number if
    `is_raw`."""
    if inputs.sides is not None:
        return await _cosines([array("f", each) for each in vectors], inputs.sides)
    numbers = [array("f", each)[0] for each in vectors]
    return numbers if is_raw or scoring == "probability" else [_sigmoid(each) for each in numbers]


class _Texts:
    """The distinct texts of a comparison, each with its place in the request."""

    def __init__(self, prompts: TextPrompts | None) -> None:
        self._prompts = prompts
        self._numbers: dict[tuple[str, TextRole], int] = {}
        self.places: list[str] = []

    def number_of(self, text: str, role: TextRole, place: str) -> int:
        """The number of the text, which is noted if it is new."""
        number = self._numbers.setdefault((text, role), len(self._numbers))
        if number == len(self.places):
            self.places.append(place)
        return number

    @property
    def roles(self) -> list[TextRole]:
        return [role for _, role in self._numbers]

    @property
    def prompted(self) -> list[str]:
        """The texts as the model wants them."""
        prompts = self._prompts
        if prompts is None:
            return [text for text, _ in self._numbers]
        return [prompts.of(role) + text for text, role in self._numbers]


async def _each_text(comparison: Comparison, model: ServedModel, most: int) -> ComparedInputs:
    """Every text once, however many pairs it is in."""
    texts = _Texts(model.text_prompts if comparison.has_roles else None)
    sides = [
        (
            texts.number_of(pair.query, "query", pair.query_place),
            texts.number_of(pair.document, "document", pair.document_place),
        )
        for pair in comparison.pairs
    ]
    cut, around = comparison.cut, model.control_texts.around
    is_cut = cut.max_pair is not None or cut.max_document is not None
    token_lists = await model.encode(
        texts.prompted,
        add_special=True,
        parse_special=False,
        most=None if is_cut else most,
        places=texts.places,
    )
    pieces = zip(token_lists, texts.roles, texts.places, strict=True)
    return ComparedInputs(
        [_read(ids, role, place, cut, around, most) for ids, role, place in pieces], sides
    )


def _read(
    token_ids: list[int], role: TextRole, place: str, cut: Cut, around: Around, most: int
) -> list[int]:
    """The tokens of one text that are read."""
    num_around = len(around.before) + len(around.after)
    limits = [] if cut.max_pair is None else [max(min(cut.max_pair, most), num_around + 1)]
    if role == "document" and cut.max_document is not None:
        limits.append(cut.max_document + num_around)
    if limits and len(token_ids) > min(limits):
        end = min(limits) - len(around.after)
        token_ids = [*token_ids[:end], *around.after]
    if not token_ids:
        raise InvalidRequest(f"`{place}` has no tokens in this model.", param=place)
    if len(token_ids) > most:
        raise ContextLengthExceeded.by_text(len(token_ids), most, param=place)
    return token_ids


async def _cosines(vectors: Sequence["array[float]"], sides: list[tuple[int, int]]) -> list[float]:
    """Of vectors of length 1."""
    at_once = max(1, MULTIPLIED_NUMBERS // len(vectors[0]))
    cosines: list[float] = []
    for start in range(0, len(sides), at_once):
        some = sides[start : start + at_once]
        cosines += [math.fsum(map(mul, vectors[first], vectors[second])) for first, second in some]
        await asyncio.sleep(0)
    return [max(-1.0, min(1.0, each)) for each in cosines]


def _sigmoid(value: float) -> float:
    return 0.5 * (1 + math.tanh(value / 2))


def _list_of(place: str) -> str:
    return place.partition("[")[0]
