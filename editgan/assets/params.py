"""Parameters of stage `assets`."""

from __future__ import annotations

from pydantic import Field, model_validator

from editgan.config import Section


class AssetsParams(Section):
    """Local files of the published reference networks. All other networks are in the manifest.

    Paths are absolute or relative to the main project folder, not to a checkout. DVC detects changed files by the hash.
    """

    reference_inception: str | None = None
    reference_inception_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    ir_se50: str | None = None
    ir_se50_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @model_validator(mode="after")
    def _hashes(self) -> AssetsParams:
        for name in ("reference_inception", "ir_se50"):
            path = getattr(self, name)
            if path is not None and getattr(self, f"{name}_sha256") is None:
                raise ValueError(f"{name} needs {name}_sha256: the hash that `sha256sum {path}` prints")
        return self
