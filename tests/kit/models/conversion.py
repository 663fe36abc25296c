"""Conversions of tiny models, watched by nobody."""

from pathlib import Path
from typing import Any

from convert.pipeline.convert import convert
from convert.pipeline.plan import Options
from convert.target.recipe import Recipe, make_recipe


def converted(
    source: Path,
    target: Path,
    recipe: Recipe | str = "bf16",
    *,
    dtype: Any = None,
    **options: Any,
) -> Path:
    """The folder `target`, made by a recipe or a precision."""
    made = make_recipe(recipe, dtype=dtype) if isinstance(recipe, str) else recipe
    convert(source, target, made, Options(**{"num_threads": 2, **options}), lambda num_bytes: None)
    return target
