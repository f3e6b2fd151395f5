"""The figures of the smile protocol, with stand-ins for the judges that read planted pixels."""

import pytest
import torch
from torch import Tensor, nn

from editgan.benchmark.report import matched_identity, pasted, plain, table
from editgan.benchmark.scores import (
    Scores,
    Yardsticks,
    different_people_cosine,
    measure_reference,
    measure_row,
    score_embedding,
    score_row,
)
from editgan.benchmark.smile import EDITGAN, INPUT, PASTED, RECONSTRUCTION, TRULY_SMILING, SmileHeads
from editgan.benchmark.titles import column_title, title_of
from editgan.judges import SMILE_JUDGES, Judges

SIZE, HEADS, REFERENCE = 16, 6, 20
METHODS = ("editgan", "editgan_plus", "interfacegan", "interfacegan_conditional", "localediting")
NEW = ("interfacegan", "localediting", "distillation", "maskgan", "sweep")
NAMES = ["background", "skin", "upper_lip", "lower_lip", "mouth_interior"]
MOUTH = (slice(10, 13), slice(5, 11))  # rows, columns


class RedMouth(nn.Module):
    """Calls a head smiling where its mouth is redder than `level`."""

    def __init__(self, level: float = 0.0) -> None:
        super().__init__()
        self.level = level

    def smile(self, images: Tensor) -> Tensor:
        return (8 * (images[:, 0, MOUTH[0], MOUTH[1]].mean((1, 2)) - self.level)).sigmoid()


class Pooled(nn.Module):
    """Means of 4x4 patches: features that see where something is."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, 4).flatten(1)


class PixelDistance(nn.Module):
    """The interface of LPIPS over plain pixels."""

    def features(self, images: Tensor) -> list[Tensor]:
        return [images]

    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        return (first[0] - second[0]).square().mean((1, 2, 3))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.distance([first], [second])


def stand_ins() -> Judges:
    networks = {name: RedMouth(level) for name, level in zip(SMILE_JUDGES, (0.0, 0.2, -0.2), strict=True)}
    return Judges(smile=networks, identity=Pooled(), features=Pooled(), lpips=PixelDistance())


def yardsticks(batch: int = 4) -> Yardsticks:
    judges = stand_ins()
    return Yardsticks(
        judges=judges,
        identity={"mobilefacenet": judges.identity},
        features={"efflite0": judges.features},
        batch=batch,
        device=torch.device("cpu"),
    )


def planted_heads(count: int = HEADS, seed: int = 0) -> SmileHeads:
    """Noise with a dark mouth, and the same noise with a red one."""
    generator = torch.Generator().manual_seed(seed)
    photos = torch.randint(60, 200, (count, 3, SIZE, SIZE), generator=generator, dtype=torch.uint8)
    photos[:, :, MOUTH[0], MOUTH[1]] = 20
    smiling = photos.clone()
    smiling[:, 0, MOUTH[0], MOUTH[1]] = 250
    region = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    region[:, MOUTH[0], MOUTH[1]] = True
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.uint8)
    masks[:, MOUTH[0], MOUTH[1]] = NAMES.index("lower_lip")
    people = list(range(count))
    neutral = torch.zeros_like(masks)
    neutral[:, MOUTH[0], MOUTH[1]] = NAMES.index("upper_lip")
    return SmileHeads(
        photos=photos, smiling=smiling, region=region, identities=people, masks=neutral, smiling_masks=masks
    )


def score(pictures: Tensor, heads: SmileHeads, reconstruction: Tensor, name: str = EDITGAN) -> Scores:
    rulers = yardsticks()
    reference = planted_heads(REFERENCE, seed=9).smiling
    references = measure_reference(reference, rulers, heads=len(pictures), kid_subsets=3, seed=0)
    pictures_of = {INPUT: heads.photos, RECONSTRUCTION: reconstruction, name: pictures}
    rows = {row: measure_row(images, heads.smiling, rulers) for row, images in pictures_of.items()}
    return score_row(name, rows, heads, references, kid_subsets=3, bootstrap=200, seed=0)


def test_a_perfect_edit_scores_as_one():
    heads = planted_heads()
    values = score(heads.smiling, heads, heads.photos).values
    assert all(values[f"smiling_{judge}"] == 100 for judge in SMILE_JUDGES)
    assert values["l2"] == values["lpips_alex"] == values["leak_to_input"] == values["leak_to_reconstruction"] == 0
    assert values["identity_mobilefacenet"] == values["identity_to_reconstruction_mobilefacenet"] < 1
    assert {f"fid{HEADS}_efflite0", f"kid{HEADS}_efflite0"} <= values.keys()


def test_each_figure_notices_its_own_fault():
    heads = planted_heads()
    perfect = score(heads.smiling, heads, heads.photos)

    neutral = score(heads.photos, heads, heads.photos).values
    assert neutral["smiling_judge"] == 0 and neutral["l2"] > 0.01

    leaking = heads.smiling.clone()
    leaking[:, :, 0, 0] = 255 - leaking[:, :, 0, 0]
    leak = score(leaking, heads, heads.photos).values
    assert leak["leak_to_input"] > 0 and leak["smiling_judge"] == 100

    blurred = nn.functional.avg_pool2d(heads.smiling.float(), 5, 1, 2).to(torch.uint8)
    fid, kid = f"fid{HEADS}_efflite0", f"kid{HEADS}_efflite0"
    soft = score(blurred, heads, heads.photos).values
    assert soft[fid] > perfect.values[fid] and soft[kid] > perfect.values[kid]

    strangers = score(heads.photos.roll(1, 0), heads, heads.photos).values
    assert neutral["identity_mobilefacenet"] == pytest.approx(1) == neutral["identity_relative_mobilefacenet"]
    assert strangers["identity_mobilefacenet"] < 0.999
    assert abs(strangers["identity_relative_mobilefacenet"]) < 0.5  # as far as different people are on the whole


def test_methods_without_a_strength_are_compared_at_their_identity():
    """A method that keeps 0.8: the mixture half way between strengths 0 and 1 keeps as much; nothing keeps 0.95."""
    curves = {
        RECONSTRUCTION + PASTED: [{"smiling_judge": 10.0, "identity_mobilefacenet": 0.9}],
        EDITGAN + PASTED: [{"smiling_judge": 70.0, "identity_mobilefacenet": 0.7}],
        EDITGAN: [{"smiling_judge": 99.0, "identity_mobilefacenet": 0.99}],
    }
    for identity, cell in ((0.8, "40.0"), (0.95, "–")):
        scores = {"distillation": Scores(values={"smiling_judge": 50.0, "identity_mobilefacenet": identity})}
        row = matched_identity(scores, pasted(curves)).splitlines()[-1]
        assert row == f"| StyleGAN2 Distillation | {identity:.3f} | 50.0 | {cell} |"
    scores = {"maskgan": Scores(values={"smiling_judge": 50.0, "identity_mobilefacenet": 0.5})}
    unpasted = plain(curves) | {RECONSTRUCTION: [{"smiling_judge": 0.0, "identity_mobilefacenet": 0.6}]}
    assert matched_identity(scores, unpasted).splitlines()[-1] == "| MaskGAN | 0.500 | 50.0 | 99.0 |"


def test_leak_to_the_reconstruction_leaves_its_error_out():
    heads = planted_heads()
    reconstruction = heads.photos.clone()
    reconstruction[:, :, 0] = 0  # a bad reconstruction, and an edit that changes nothing else but the mouth
    edited = reconstruction.clone()
    edited[:, 0, MOUTH[0], MOUTH[1]] = 250
    values = score(edited, heads, reconstruction).values
    assert values["leak_to_reconstruction"] == 0 < values["leak_to_input"]


def test_smile_networks_are_kept_apart():
    heads = planted_heads()
    pictures = heads.smiling.clone()
    pictures[:, 0, MOUTH[0], MOUTH[1]] = 140  # 0.098 in [-1, 1]: over 0 and -0.2, under 0.2
    values = score(pictures, heads, heads.photos).values
    assert [values[f"smiling_{judge}"] for judge in SMILE_JUDGES] == [100, 0, 100]


def test_rows_show_only_what_makes_sense_for_them():
    heads = planted_heads()
    photo = score(heads.photos, heads, heads.photos, INPUT)
    ceiling = score(heads.smiling, heads, heads.photos, TRULY_SMILING)
    assert not {"leak_to_input", "identity_mobilefacenet"} & photo.values.keys()
    assert not {"l2", "lpips_alex", "leak_to_reconstruction"} & ceiling.values.keys()
    assert "leak_to_input" in ceiling.values
    for scores in (photo, ceiling):
        for column, (low, high) in scores.intervals.items():
            assert low - 1e-9 <= scores.values[column] <= high + 1e-9


def test_figures_do_not_depend_on_the_batch():
    heads = planted_heads()
    first, second = (measure_row(heads.photos, heads.smiling, yardsticks(batch)) for batch in (2, 6))
    torch.testing.assert_close(first.features["efflite0"], second.features["efflite0"], rtol=0, atol=1e-6)
    torch.testing.assert_close(first.smile, second.smile, rtol=0, atol=1e-6)
    torch.testing.assert_close(first.lpips_alex, second.lpips_alex, rtol=0, atol=1e-6)


def test_embedding_is_measured_against_the_photos():
    heads = planted_heads()
    figures = score_embedding(heads.photos, {"same": heads.photos, "other": heads.photos.roll(1, 0)}, yardsticks())
    assert figures["same"] == pytest.approx({"lpips_alex": 0, "l2": 0, "identity_mobilefacenet": 1})
    assert figures["other"]["l2"] > 0.01 < figures["other"]["lpips_alex"]
    assert figures["other"]["identity_mobilefacenet"] < 0.999


def test_different_people_leave_out_the_same_person():
    features = torch.eye(3, dtype=torch.float64)[[0, 0, 1]]
    assert different_people_cosine(features, [7, 7, 8]) == 0
    assert different_people_cosine(features, [1, 2, 3]) == pytest.approx(1 / 3)


def test_table_has_a_dash_where_a_figure_makes_no_sense():
    rows = {
        INPUT: Scores(values={"smiling_judge": 1.0, "kid6_efflite0": 0.0123}),
        "editgan_30": Scores(
            values={"smiling_judge": 91.5, "kid6_efflite0": -0.001, "leak_to_input": 0.002},
            intervals={"smiling_judge": (88.7, 94.2), "leak_to_input": (0.001, 0.003)},
        ),
    }
    lines = table(rows).splitlines()
    assert lines[0] == "| | % smiling, judge | KID6_efflite0 x1e3 | leak to input x1e3 |"
    assert lines[2] == "| input | 1.0 | 12.30 | – |"
    assert lines[3] == "| EditGAN+30 | 91.5 [88.7, 94.2] | -1.00 | 2.00 [1.00, 3.00] |"
    assert title_of("editgan_10") == "EditGAN+10" and column_title("fid400_inception") == "FID400_inception"
