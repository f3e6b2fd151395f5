"""The base class of every section of a params file."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen, typed section of `params.yaml`; a key that it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)
