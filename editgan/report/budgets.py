"""What each method was given: masks, attributes, images, steps, parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from editgan.methods.registry import INTERFACEGAN, LOCALEDITING, PLUS
from editgan.methods.smile import DISTILLATION, EDITGAN, MASKGAN

if TYPE_CHECKING:
    from editgan.report.report import Setting


def budgets(setting: Setting) -> dict[str, str]:
    """A sentence a method; minutes, which differ from machine to machine, stand in docs/results/benchmark.md."""
    masks, heads = f"{setting.masks} labelled masks", setting.plus_source.count(",") + 1
    found, chosen = setting.given[INTERFACEGAN], setting.given[LOCALEDITING]
    pairs, drawn = setting.given[DISTILLATION], setting.given[MASKGAN]
    thresholds = len(chosen["rho"]) * len(chosen["epsilon"])
    given = {
        EDITGAN: f"{masks}; one head's mask edited, {setting.edit_steps} steps of optimisation; where refined,"
        f" {setting.refine_steps} steps a head",
        PLUS: f"{masks}; masks of {heads} heads edited, {setting.edit_steps} steps each, and the mean of their vectors",
        INTERFACEGAN: f"no mask; {found['samples']:,} samples scored by the guide, whom smile labels of the training"
        " heads of half of the people trained; for the conditional direction further attributes of"
        f" {found['condition_heads']:,} training heads",
        LOCALEDITING: f"{masks}, to name the clusters of the features of {chosen['samples']:,} samples;"
        f" {chosen['references']} smiling training heads tried as the reference with {thresholds} thresholds each,"
        " chosen by the guide within a limit of what they may change around the mouth",
        DISTILLATION: f"no mask; {pairs['samples']:,} samples seen by the guide; a network of its own for the smile,"
        f" {setting.trained[DISTILLATION]['parameters']:,} parameters, trained on"
        f" {setting.trained[DISTILLATION]['pairs']} pairs of samples along InterFaceGAN's direction, which the guide"
        f" chose, {1000 * pairs['kimg']:,.0f} times one of them",
    }
    if MASKGAN in setting.trained:
        given[MASKGAN] = (
            f"{setting.trained[MASKGAN]['train_masks']:,} labelled masks, and the exact mask of every photo that"
            " it edits, as in its paper; the mouth of the mask of one smiling head among them; a network of"
            f" {setting.trained[MASKGAN]['parameters']:,} parameters, trained on these heads and masks, of which it saw"
            f" {1000 * (drawn['kimg'] + drawn['ebst_kimg']):,.0f}"
        )
    return given
