"""Types of parameters that several of OpenAI's requests share."""

from typing import Annotated, Any, Literal

from msgspec import Meta

Unsupported = Any
"""A field that is refused unless it has a neutral value: its inside is never looked at."""

Unchecked = Any
"""A field that `gateway.generation.scheduling` checks, for a message that lists what is allowed."""

Temperature = Annotated[float, Meta(ge=0, le=2)]
TopP = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
NumChoices = Annotated[int, Meta(ge=1, le=128)]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
# No number is larger than a message to the engine can hold. The context's length is checked later.
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TopK = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
NumTokens = Annotated[int, Meta(ge=0, le=2**63 - 1)]
MaxTokens = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
"""The most tokens of an answer; -1 sets no limit, as if it were left out."""

LogitBias = dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]]
StopString = Annotated[str, Meta(min_length=1, max_length=4096)]
StopStrings = Annotated[list[StopString], Meta(max_length=64)]
StopTokenIds = Annotated[list[TokenId], Meta(max_length=1024)]
TemplateVariables = Annotated[dict[str, Any], Meta(max_length=1024)]
CacheSalt = Annotated[str, Meta(min_length=1, max_length=256)]
Metadata = Annotated[
    dict[
        Annotated[str, Meta(max_length=64)],
        Annotated[str, Meta(max_length=512)],
    ],
    Meta(max_length=16),
]
ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast"]
Verbosity = Literal["low", "medium", "high"]
