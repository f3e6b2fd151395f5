"""The budget of each method: masks, attributes, images, steps, parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editgan.methods.registry import INTERFACEGAN, LOCALEDITING, PLUS
from editgan.methods.smile import DISTILLATION, EDITGAN, MASKGAN

if TYPE_CHECKING:
    from editgan.report.report import Setting


def budgets(setting: Setting) -> dict[str, str]:
    """One sentence per method. Minutes depend on the machine and are in docs/results/benchmark.md."""
    masks, heads = f"{setting.masks} labelled masks", setting.plus_source.count(",") + 1
    found, chosen = setting.given[INTERFACEGAN], setting.given[LOCALEDITING]
    pairs, drawn = setting.given[DISTILLATION], setting.given[MASKGAN]
    thresholds = len(chosen["rho"]) * len(chosen["epsilon"])
    given = {
        EDITGAN: f"{masks}; the mask of one head edited, {setting.edit_steps} optimisation steps; with refinement,"
        f" {setting.refine_steps} steps per head",
        PLUS: f"{masks}; the masks of {heads} heads edited, {setting.edit_steps} steps each; mean of their vectors",
        INTERFACEGAN: f"no mask; {found['samples']:,} samples scored by the guide, which was trained on smile labels of"
        " the training heads of half of the people; for the conditional direction also attributes of"
        f" {found['condition_heads']:,} training heads",
        LOCALEDITING: f"{masks}, to name the feature clusters of {chosen['samples']:,} samples;"
        f" {chosen['references']} smiling training heads tried as the reference with {thresholds} thresholds each,"
        " chosen by the guide within a limit on the change around the mouth",
        DISTILLATION: f"no mask; {pairs['samples']:,} samples scored by the guide; a separate smile network with"
        f" {setting.trained[DISTILLATION]['parameters']:,} parameters, trained on"
        f" {setting.trained[DISTILLATION]['pairs']} pairs of samples along InterFaceGAN's direction, selected by the"
        f" guide; {1000 * pairs['kimg']:,.0f} training images",
    }
    if MASKGAN in setting.trained:
        given[MASKGAN] = (
            f"{setting.trained[MASKGAN]['train_masks']:,} labelled masks, and the exact mask of every edited photo, as"
            " in its paper; the target mouth is that of one smiling head among them; a network with"
            f" {setting.trained[MASKGAN]['parameters']:,} parameters, trained on these heads and masks,"
            f" {1000 * (drawn['kimg'] + drawn['ebst_kimg']):,.0f} training images"
        )
    return given
