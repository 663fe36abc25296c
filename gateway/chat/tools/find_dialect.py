"""Finds the dialect that a model was taught."""

from collections.abc import Mapping

from gateway.chat.tools.dialect import Dialect
from gateway.chat.tools.dialects.deepseek import DEEPSEEK_V3, DEEPSEEK_V31
from gateway.chat.tools.dialects.gemma import FUNCTION_GEMMA, GEMMA4
from gateway.chat.tools.dialects.generic import GENERIC
from gateway.chat.tools.dialects.harmony import HARMONY
from gateway.chat.tools.dialects.hermes import HERMES
from gateway.chat.tools.dialects.llama3 import LLAMA3
from gateway.chat.tools.dialects.mistral import MISTRAL, MISTRAL_ARGS
from gateway.chat.tools.dialects.phi import PHI
from gateway.chat.tools.dialects.tagged import GLM45, MINIMAX_M2, QWEN3_CODER, SEED_OSS

_BY_SIGN = (
    *(SEED_OSS, MINIMAX_M2, QWEN3_CODER, GLM45),
    *(HARMONY, GEMMA4, FUNCTION_GEMMA, DEEPSEEK_V3, DEEPSEEK_V31),
    *(MISTRAL_ARGS, MISTRAL, PHI, HERMES, LLAMA3),
)
"""The order matters, because some signs are parts of other signs."""

DIALECTS: Mapping[str, Dialect] = {dialect.name: dialect for dialect in (*_BY_SIGN, GENERIC)}
"""Dialects by their name in `model.tool_dialect`."""


def find_dialect(template: str) -> Dialect:
    """The dialect that a chat template teaches; the generic dialect if it teaches no known one."""
    for dialect in _BY_SIGN:
        if any(all(text in template for text in sign) for sign in dialect.signs):
            return dialect
    return GENERIC
