"""Success by an independent segmenter: how much of a picture shows the parts that the edit should enlarge."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from editgan.data.archive import load_classes
from editgan.data.protocol import Protocol
from editgan.editing.masks import is_part
from editgan.methods.maskgan.losses import Parser
from editgan.weights import load_metadata, load_module


class PartShare(nn.Module):
    """A judge: the share of the pixels, 0..1, that the parser labels as one of some parts."""

    def __init__(self, parser: Parser, class_ids: Sequence[int]) -> None:
        super().__init__()
        self.parser, self.class_ids = parser, tuple(class_ids)

    def smile(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] in [-1, 1] -> [N]."""
        return is_part(self.parser(images).argmax(1), self.class_ids).flatten(1).float().mean(1)


def load_part_share(outputs: Path, protocol: Protocol) -> PartShare | None:
    """The judge of the protocol's parts by the parser of stage `maskgan`; None if there is no parser."""
    path = outputs / "maskgan" / "parser.safetensors"
    if load_metadata(path).get("kind") == "left out":
        return None
    classes = load_classes(outputs / "data" / "classes.json")
    return PartShare(load_module(path, Parser), [classes.index(name) for name in protocol.parts])
