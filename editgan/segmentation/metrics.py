"""How well masks are predicted: intersection over union from one confusion matrix over all images."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix


@dataclass(frozen=True)
class SegmentationScores:
    """Scores of predicted masks against true ones."""

    iou: dict[str, float]  # intersection over union of each class that the truth holds
    absent: list[str]  # classes without a true pixel in any image: they have no IoU and do not enter the mean
    pixel_accuracy: float  # share of pixels with the right label

    @property
    def miou(self) -> float:
        """Mean of the classes' IoU."""
        return sum(self.iou.values()) / len(self.iou)


def confusion_matrix(predicted: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Pixels by (true class, predicted class) over all images of two uint8 stacks [N, H, W].  # int64 [K, K]"""
    metric = MulticlassConfusionMatrix(num_classes=num_classes, validate_args=False)
    for one, other in zip(predicted.split(64), truth.split(64), strict=True):  # bounded memory: int64 copies inside
        metric.update(one.long(), other.long())
    return metric.compute()


def iou_per_class(confusion: Tensor) -> Tensor:
    """Intersection over union; NaN for a class that neither truth nor prediction holds.  # float64 [K]"""
    confusion = confusion.double()
    hits = confusion.diagonal()  # [K]
    return hits / (confusion.sum(0) + confusion.sum(1) - hits)


def segmentation_scores(predicted: Tensor, truth: Tensor, class_names: Sequence[str]) -> SegmentationScores:
    """Score uint8 masks [N, H, W] against the truth."""
    confusion = confusion_matrix(predicted, truth, len(class_names))
    ious, present = iou_per_class(confusion).tolist(), (confusion.sum(1) > 0).tolist()
    return SegmentationScores(
        iou={name: iou for name, iou, there in zip(class_names, ious, present, strict=True) if there},
        absent=[name for name, there in zip(class_names, present, strict=True) if not there],
        pixel_accuracy=float(confusion.diagonal().sum().double() / confusion.sum()),
    )
