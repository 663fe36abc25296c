"""Texts for benchmarks: made of common words, each a token in the usual vocabularies."""

import random

_WORDS = (
    "time year people way day man thing woman life child world school state family student group"
    " country problem hand part place case week company system program question work government"
    " number night point home water room mother area money story fact month lot right study book"
    " eye job word business issue side kind head house service friend father power hour game line"
    " end member law car city community name"
)
WORDS = _WORDS.split()


class Words:
    """Random words; the same seed gives the same texts on every machine."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def take(self, count: int) -> str:
        """The next `count` words, a space between them."""
        return " ".join(self._random.choices(WORDS, k=count))
