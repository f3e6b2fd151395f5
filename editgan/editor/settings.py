"""Settings of the editor: those of the run whose networks it loads, else those of the default run."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from editgan.config import Section, checked, read_yaml
from editgan.editing.params import DEFAULT_WEIGHTS, ObjectiveWeights, OptimizationParams


class EmbeddingSettings(Section, extra="ignore"):
    """The keys of section `encoder` that embedding needs."""

    inversion_steps: int = Field(default=100, ge=0)
    inversion_lr: float = Field(default=0.1, gt=0)


class EditingSettings(Section, extra="ignore"):
    """The keys of section `editing` that edits need."""

    edit: OptimizationParams = OptimizationParams(steps=100, lr=0.05)
    refine: OptimizationParams = OptimizationParams(steps=30, lr=0.02)
    weights: ObjectiveWeights = DEFAULT_WEIGHTS


class Settings(Section, extra="ignore"):
    """The part of a params file that the editor uses; keys that the file lacks have the values of the default run."""

    encoder: EmbeddingSettings = EmbeddingSettings()
    editing: EditingSettings = EditingSettings()

    def embedding(self, steps: int | None, lr: float | None) -> tuple[int, float]:
        """Steps and peak learning rate of embedding; None: those of the run."""
        run = self.encoder
        return run.inversion_steps if steps is None else steps, run.inversion_lr if lr is None else lr

    def optimisation(
        self, mode: Literal["edit", "refine"], steps: int | None, lr: float | None, weights: ObjectiveWeights | None
    ) -> tuple[int, float, ObjectiveWeights]:
        """Steps, learning rate and weights of an optimisation; None: those of the run."""
        run = getattr(self.editing, mode)
        return run.steps if steps is None else steps, run.lr if lr is None else lr, weights or self.editing.weights


def run_settings(outputs: Path) -> Settings:
    """The settings in the params.yaml beside a folder of outputs; the defaults if there is no such file.

    Raises:
        UserError: the file is not readable as YAML, or one of the editor's values is out of range.
    """
    path = outputs.absolute().parent / "params.yaml"
    return checked(Settings, read_yaml(path), path) if path.exists() else Settings()
