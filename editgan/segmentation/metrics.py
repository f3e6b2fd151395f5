"""Segmentation metrics: intersection over union from one confusion matrix over all images."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from editgan.labels import IGNORE


@dataclass(frozen=True)
class SegmentationScores:
    """Scores of predicted masks against the ground truth."""

    iou: dict[str, float]  # intersection over union of each class in the ground truth
    absent: list[str]  # classes without a true pixel in any image: they have no IoU and are left out of the mean
    pixel_accuracy: float  # share of correctly labelled pixels

    @property
    def miou(self) -> float:
        """Mean IoU of the classes."""
        return sum(self.iou.values()) / len(self.iou)


def confusion_matrix(predicted: Tensor, truth: Tensor, num_classes: int) -> Tensor:
    """Pixel counts by (true class, predicted class) over two uint8 stacks [N, H, W]; truth may be IGNORE.  # [K, K]"""
    from torchmetrics.classification import MulticlassConfusionMatrix  # imports torchvision: seconds

    metric = MulticlassConfusionMatrix(num_classes=num_classes, ignore_index=IGNORE, validate_args=False)
    for one, other in zip(predicted.split(64), truth.split(64), strict=True):  # limits memory for int64 copies
        metric.update(one.long(), other.long())
    return metric.compute()


def iou_per_class(confusion: Tensor) -> Tensor:
    """Intersection over union; NaN for a class in neither ground truth nor prediction.  # float64 [K]"""
    confusion = confusion.double()
    hits = confusion.diagonal()  # [K]
    return hits / (confusion.sum(0) + confusion.sum(1) - hits)


def segmentation_scores(predicted: Tensor, truth: Tensor, class_names: Sequence[str]) -> SegmentationScores:
    """Score uint8 masks [N, H, W] against the ground truth."""
    confusion = confusion_matrix(predicted, truth, len(class_names))
    ious, present = iou_per_class(confusion).tolist(), (confusion.sum(1) > 0).tolist()
    return SegmentationScores(
        iou={name: iou for name, iou, there in zip(class_names, ious, present, strict=True) if there},
        absent=[name for name, there in zip(class_names, present, strict=True) if not there],
        pixel_accuracy=float(confusion.diagonal().sum().double() / confusion.sum()),
    )
