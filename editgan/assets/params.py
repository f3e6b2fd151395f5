"""Parameters of stage `assets`."""

from __future__ import annotations

from pydantic import Field

from editgan.section import Section


class AssetsParams(Section):
    """Local files of the published reference networks, for those who have them; everything else is in the manifest."""

    reference_inception: str | None = None  # pt_inception-2015-12-05-6726825d.pth: gives FID and KID their known names
    reference_inception_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")  # null: not checked
    ir_se50: str | None = None  # model_ir_se50.pth (TreB1eN/InsightFace_Pytorch): the paper's identity network
    ir_se50_sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")  # null: not checked
