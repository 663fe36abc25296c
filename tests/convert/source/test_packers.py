"""Matrices that AutoAWQ, AutoGPTQ and GPTQModel have packed themselves, read as they read them.

`packed_by_others.json` has, for each, what the package wrote (little-endian arrays in base64) and
the CRC-32 of each row, in float16, as the package itself decodes it (docs/convert.md).
"""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.source.folder import open_folder
from tests.kit.models.packed_folders import Stored, write_tensors

CASES = json.loads(Path(__file__).with_name("packed_by_others.json").read_text(encoding="utf-8"))
KINDS = {"int32": "I32", "float16": "F16"}


def name_of(case: dict[str, Any]) -> str:
    return "-".join(str(case[key]) for key in ("packer", "method", "bits", "checkpoint_format"))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_values_are_those_of_the_packer(case: dict[str, Any], tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", stored(case))
    section = {key: case[key] for key in ("bits", "group_size", "checkpoint_format")}
    section["quant_method"] = case["method"]
    config = {"architectures": ["Any"], "quantization_config": section}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with open_folder(tmp_path).open_tensor("m.weight") as reader:
        rows = reader.read(0, len(case["rows_crc32"])).astype("<f2")

    assert [zlib.crc32(row.tobytes()) for row in rows] == case["rows_crc32"]


def stored(case: dict[str, Any]) -> Stored:
    tensors = {}
    for name, tensor in case["tensors"].items():
        kind = np.dtype(tensor["dtype"]).newbyteorder("<")
        values = np.frombuffer(base64.b64decode(tensor["data"]), kind).reshape(tensor["shape"])
        tensors[f"m.{name}"] = (KINDS[tensor["dtype"]], values)
    return tensors
