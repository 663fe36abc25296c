"""llguidance's view of a model's vocabulary."""

from llguidance import LLTokenizer, TokenizerWrapper

from runtime.errors import InvalidRequest
from runtime.structured.trial.messages import Spelling
from runtime.tokenizers.tokenizer import Tokenizer


def grammar_tokenizer(tokenizer: Tokenizer) -> LLTokenizer:
    """llguidance's tokenizer, with the exact bytes of all tokens. Tokens that stand for no text
    match no text. Building it takes half a second for 150,000 tokens.

    llguidance knows only one end token; users of its masks add the other end tokens. For a model
    without end tokens, it gets a token id outside the vocabulary.
    """
    return LLTokenizer(TokenizerWrapper(_Vocabulary(spelling_of(tokenizer), tokenizer)))


def trial_tokenizer(spelling: Spelling) -> LLTokenizer:
    """The same for a process that has no tokenizer: any tokens that spell a text will do there."""
    return LLTokenizer(TokenizerWrapper(_Vocabulary(spelling)))


def spelling_of(tokenizer: Tokenizer) -> Spelling:
    """All that llguidance needs to know of a vocabulary."""
    tokens = [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
    if not tokenizer.eog_token_ids:
        tokens.append(b"")
    return Spelling(
        tokens=tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=min(tokenizer.eog_token_ids, default=tokenizer.vocab_size),
    )


class _Vocabulary:
    """The interface that `TokenizerWrapper` expects: tokens as bytes, and a call that tokenises."""

    def __init__(self, spelling: Spelling, tokenizer: Tokenizer | None = None) -> None:
        self._tokenizer = tokenizer
        self.special_token_ids = [i for i, data in enumerate(spelling.tokens) if not data]
        # A special token has a name instead of bytes. The name is not text, so no text leads to it.
        self.tokens = [
            data or f"<|special {i}|>".encode() for i, data in enumerate(spelling.tokens)
        ]
        self.bos_token_id = spelling.bos_token_id
        self.eos_token_id = spelling.eos_token_id
        self._ids_of_bytes = {data: i for i, data in enumerate(spelling.tokens) if data}
        self._longest = max(map(len, spelling.tokens))

    def __call__(self, text: str) -> list[int]:
        """The tokens of a text. Where only one text can follow, llguidance wants the tokens that
        the model was trained on. Their bytes must be exactly this text: some tokenizers put a blank
        before it."""
        if not isinstance(text, str):
            raise TypeError("texts only")
        data = text.encode()
        if self._tokenizer is None:
            return self._longest_first(data)
        try:
            token_ids = self._tokenizer.encode(text, add_special=False, parse_special=False)
        except InvalidRequest:
            return self._longest_first(data)
        spelled = b"".join(map(self._tokenizer.token_bytes, token_ids))
        return token_ids if spelled == data else self._longest_first(data)

    def _longest_first(self, data: bytes) -> list[int]:
        token_ids: list[int] = []
        while data:
            lengths = range(min(self._longest, len(data)), 0, -1)
            found = next((n for n in lengths if data[:n] in self._ids_of_bytes), None)
            if found is None:
                return token_ids  # llguidance goes on byte by byte
            token_ids.append(self._ids_of_bytes[data[:found]])
            data = data[found:]
        return token_ids
