"""The rules every model on the wire obeys; it does not know any event type."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat


class WireRecord(BaseModel):
    """A frozen record; fields of a newer writer are tolerated and dropped.

    The docstring under a field is its description in the exported JSON Schema.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


Source = Literal["api", "chat", "labeler", "playground", "eval", "canary", "simulated"]
"""Where traffic comes from. `eval` and `canary` never train."""

Role = Literal["client", "labeler", "admin"]
"""Who acts: the role of the API key that the ballot or request was made with."""

Likert = Annotated[int, Field(ge=1, le=7)]
"""Overall quality, 1 (worst) to 7 (best): spec 2.2."""

Seconds = Annotated[FiniteFloat, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
