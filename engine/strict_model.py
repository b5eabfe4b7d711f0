"""`StrictModel`: the base of everything that a workflow file says."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class StrictModel(BaseModel):
    """Refuses unknown keys, NaN and infinity; the text under a field is its description."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        validate_default=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
