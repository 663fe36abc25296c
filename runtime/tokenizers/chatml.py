"""ChatML: the chat format of many model families, recognised by its control tokens."""

from collections.abc import Collection

CHATML_TOKENS = ("<|im_start|>", "<|im_end|>")

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The format as a chat template."""


def knows_chatml(control_tokens: Collection[str]) -> bool:
    """Whether a vocabulary with these control tokens was made for ChatML."""
    return all(token in control_tokens for token in CHATML_TOKENS)
