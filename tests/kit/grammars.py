"""What a grammar takes, in the vocabulary of the scripted engine."""

from runtime.messages.request import SamplingParams
from runtime.messages.structured_output import StructuredOutput
from runtime.structured.grammars import GrammarCompiler
from runtime.structured.guide import Guide
from runtime.tokenizers.load import load_tokenizer

TOKENIZER = load_tokenizer("")


def takes(compiler: GrammarCompiler, asked: StructuredOutput, text: str) -> bool:
    """Whether the text may come and then end."""
    params = SamplingParams(max_tokens=1, structured_output=asked)
    guide = Guide(compiler.compile(asked).result(), params)
    guide.push([])
    for token_id in TOKENIZER.encode(text, add_special=False, parse_special=True):
        if not guide.allowed[token_id]:
            return False
        guide.push([token_id])
    return bool(guide.allowed[TOKENIZER.eos_token_id])
