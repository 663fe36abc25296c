"""Decides which tokens are shown and which end a generation, by the file's metadata and by texts.

The rules and texts are those of llama.cpp (src/llama-vocab.cpp in llama-cpp-python 0.3.36).
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class _Role(NamedTuple):
    """How to find a token: by metadata keys, of which a later one overrides an earlier one, else by
    one of the texts."""

    keys: tuple[str, ...]
    texts: tuple[str, ...]


_EOT = _Role(
    ("eot_token_id",),
    (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "<｜end▁of▁sentence｜>",
        "<end_of_utterance>",
    ),
)
_EOM = _Role(("eom_token_id",), ("<|eom_id|>",))
_FIM_PREFIX = _Role(
    ("fim_pre_token_id", "prefix_token_id"),
    (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
)
_FIM_SUFFIX = _Role(
    ("fim_suf_token_id", "suffix_token_id"),
    (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
)
_FIM_MIDDLE = _Role(
    ("fim_mid_token_id", "middle_token_id"),
    (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
)
_FIM_PAD = _Role(("fim_pad_token_id",), ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"))
_FIM_REPO = _Role(
    ("fim_rep_token_id",), ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>")
)
_FIM_FILE = _Role(("fim_sep_token_id",), ("<|file_sep|>",))
# These end a generation in addition to the tokens of the roles above.
_EOG_TEXTS = (
    *_EOT.texts,
    *_EOM.texts,
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "</s>",
    "[EOS]",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "[e~[",
)
ALWAYS_SHOWN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")
"""Tokens that structure a prompt and are shown in an answer nevertheless."""

_FALSE_END_TEXTS = (
    *("<|call|>", "<|calls|>", "<|end|>", "<|return|>", "<|flush|>"),
    *("</s>", "<|tool_response>", "<|plamo:eos|>"),
)


class FimTokens(NamedTuple):
    """The tokens for filling in the middle: `prefix` stands before the text in front of the gap,
    `suffix` before the text behind it, `middle` before the text that fills it."""

    prefix: int
    suffix: int
    middle: int


class TokenRoles:
    """Finds the roles of tokens by llama.cpp's rules and in its order: a later rule overrides an
    earlier one.

    `hidden` tokens stand for no text; `user_defined` ones stand for their own text whatever the
    merges say. Both start as the model file has them. `named` gives the id that the file has under
    a key such as "eot_token_id", or None.
    """

    def __init__(
        self,
        ids: Mapping[str, int],
        *,
        hidden: Iterable[int],
        user_defined: Iterable[int],
        named: Callable[[str], int | None],
    ) -> None:
        self._ids = ids
        self._named = named
        self.hidden = set(hidden)
        self._declared = frozenset(self.hidden)
        self.user_defined = set(user_defined)

    def find_eog(self, eos: Iterable[int]) -> frozenset[int]:
        """All tokens that end a generation: those of `eos`, and those that have such a role or
        text. Changes `hidden` and `user_defined` accordingly."""
        for role in (_FIM_PREFIX, _FIM_SUFFIX, _FIM_MIDDLE):
            self._find(role)
        ends = (self._find(role) for role in (_EOT, _EOM, _FIM_PAD, _FIM_REPO, _FIM_FILE))
        eog = {*eos, *(token_id for token_id in ends if token_id is not None)}
        by_text = {self._ids[text] for text in _EOG_TEXTS if text in self._ids}
        self.hidden |= by_text
        self._show(*ALWAYS_SHOWN)
        eog |= by_text
        self._drop_false_ends(eog)
        return frozenset(eog)

    def find_fim(self) -> FimTokens | None:
        """The tokens for filling in the middle; None unless the vocabulary has all three."""
        prefix, suffix, middle = map(self._find, (_FIM_PREFIX, _FIM_SUFFIX, _FIM_MIDDLE))
        if prefix is None or suffix is None or middle is None:
            return None
        return FimTokens(prefix, suffix, middle)

    def control_texts(self) -> frozenset[str]:
        """The texts of all tokens that structure a prompt: those that the file calls control
        tokens, and those that have such a role or text."""
        control = self._declared | self.hidden
        return frozenset(
            text
            for text, token_id in self._ids.items()
            if token_id in control or text in ALWAYS_SHOWN
        )

    def _find(self, role: _Role) -> int | None:
        """The token of a role. A token found by its text alone becomes a control token."""
        for key in reversed(role.keys):
            token_id = self._named(key)
            if token_id is not None:
                return token_id
        found = min((self._ids[text] for text in role.texts if text in self._ids), default=None)
        if found is not None:
            self.hidden.add(found)
        return found

    def _drop_false_ends(self, eog: set[int]) -> None:
        """Removes tokens that look like an end but are none if certain others exist."""
        texts = {text for text in _FALSE_END_TEXTS if self._ids.get(text) in eog}
        calls = not texts.isdisjoint(("<|call|>", "<|calls|>"))
        if calls and "<|end|>" in texts and not texts.isdisjoint(("<|return|>", "<|flush|>")):
            eog.discard(self._ids["<|end|>"])
            self._show("<|end|>")
        if "</s>" in texts and not texts.isdisjoint(("<|tool_response>", "<|plamo:eos|>")):
            eog.discard(self._ids["</s>"])
            self.hidden.discard(self._ids["</s>"])
            self.user_defined.discard(self._ids["</s>"])

    def _show(self, *texts: str) -> None:
        for token_id in (self._ids[text] for text in texts if text in self._ids):
            self.hidden.discard(token_id)
            self.user_defined.add(token_id)
