"""Requests for engines, in as few words as a test needs."""

from typing import Any

from runtime.messages.request import Request, SamplingParams

_SAMPLING = frozenset(SamplingParams.__struct_fields__)


def a_request(request_id: str = "r", **fields: Any) -> Request:
    """Eight tokens to a prompt of one, unless `fields` say otherwise: fields of the request and of
    its sampling side by side."""
    sampling = {name: fields.pop(name) for name in list(fields) if name in _SAMPLING}
    params = SamplingParams(**{"max_tokens": 8, **sampling})
    return Request(request_id=request_id, sampling=params, **{"prompt_token_ids": [1], **fields})
