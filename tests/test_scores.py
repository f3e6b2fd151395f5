"""The figures of the smile protocol, with stand-ins for the judges that read planted pixels."""

import pytest
import torch
from torch import Tensor, nn

from editgan.benchmark.tables import matched_identity, table
from editgan.benchmark.titles import column_title, title_of
from editgan.errors import UserError
from editgan.judges.load import SMILE_JUDGES, Judges
from editgan.judges.quality import measure
from editgan.methods.smile import EDITGAN, INPUT, RECONSTRUCTION, TRULY_SMILING, SmileHeads
from editgan.metrics import Reference
from editgan.scoring.scores import (
    Measured,
    Scores,
    different_people_cosine,
    load_heads,
    measure_row,
    save_heads,
    score_embedding,
    score_row,
)
from editgan.scoring.table import Column, Figure, Row, Table, metrics_of, only, parse_table, table_csv

SIZE, HEADS, REFERENCE = 16, 6, 20
METHODS = ("editgan", "editgan_plus", "interfacegan", "interfacegan_conditional", "localediting")
NEW = ("interfacegan", "localediting", "distillation", "maskgan", "scoring")
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
    features = {"efflite0": Pooled()}
    return Judges(smile=networks, identity={"mobilefacenet": Pooled()}, features=features, lpips=PixelDistance())


def measured(pictures: Tensor, heads: SmileHeads, batch: int = 4) -> Measured:
    return measure_row(pictures, heads.smiling, stand_ins(), batch=batch, device=torch.device("cpu"))


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


SMILING, IDENTITY = Column("smiling", "judge"), Column("identity", "mobilefacenet")
RELATIVE, DISTANCE = Column("identity_relative", "mobilefacenet"), Column("lpips", "alex")
L2, LEAK, OWN_LEAK = Column("l2"), Column("leak_to_input"), Column("leak_to_reconstruction")
FID, KID = Column("fid", "efflite0"), Column("kid", "efflite0")


def score(pictures: Tensor, heads: SmileHeads, reconstruction: Tensor, method: str = EDITGAN) -> Scores:
    reference = measure(Pooled(), planted_heads(REFERENCE, seed=9).smiling)
    return score_row(
        Row(method, 1.0),
        measured(pictures, heads),
        photo=measured(heads.photos, heads),
        reconstruction=measured(reconstruction, heads),
        heads=heads,
        references={"efflite0": Reference.of(reference, count=len(pictures), seed=0)},
        seed=0,
    )


def test_a_perfect_edit_scores_as_one():
    heads = planted_heads()
    values = score(heads.smiling, heads, heads.photos).values()
    assert all(values[Column("smiling", judge)] == 100 for judge in SMILE_JUDGES)
    assert values[L2] == values[DISTANCE] == values[LEAK] == values[OWN_LEAK] == 0
    assert values[IDENTITY] == values[Column("identity_to_reconstruction", "mobilefacenet")] < 1
    assert {FID, KID} <= values.keys()


def test_each_figure_notices_its_own_fault():
    heads = planted_heads()
    perfect = score(heads.smiling, heads, heads.photos).values()

    neutral = score(heads.photos, heads, heads.photos).values()
    assert neutral[SMILING] == 0 and neutral[L2] > 0.01

    leaking = heads.smiling.clone()
    leaking[:, :, 0, 0] = 255 - leaking[:, :, 0, 0]
    leak = score(leaking, heads, heads.photos).values()
    assert leak[LEAK] > 0 and leak[SMILING] == 100

    blurred = nn.functional.avg_pool2d(heads.smiling.float(), 5, 1, 2).to(torch.uint8)
    soft = score(blurred, heads, heads.photos).values()
    assert soft[FID] > perfect[FID] and soft[KID] > perfect[KID]

    strangers = score(heads.photos.roll(1, 0), heads, heads.photos).values()
    assert neutral[IDENTITY] == pytest.approx(1) == neutral[RELATIVE]
    assert strangers[IDENTITY] < 0.999
    assert abs(strangers[RELATIVE]) < 0.5  # as far as different people are on the whole


def point(smiling: float, identity: float) -> dict[Column, Figure]:
    return {SMILING: Figure(6, smiling), IDENTITY: Figure(6, identity)}


def unpadded(table: str) -> list[str]:
    """The lines of a table without the spaces that align it."""
    return [" ".join(line.split()) for line in table.splitlines()]


def test_methods_without_a_strength_are_compared_at_their_identity():
    """A method that keeps 0.8: the mixture half way between strengths 0 and 1 keeps as much; nothing keeps 0.95."""
    sweep = {
        Row(RECONSTRUCTION, 0.0, True): point(10.0, 0.9),
        Row(EDITGAN, 1.0, True): point(70.0, 0.7),
        Row(EDITGAN, 1.0): point(99.0, 0.99),
    }
    for identity, cell in ((0.8, "40.0"), (0.95, "–")):
        results = {Row("distillation"): point(50.0, identity)}
        row = unpadded(matched_identity(results, only(sweep, pasted=True)))[-1]
        assert row == f"| StyleGAN2 Distillation | {identity:.3f} | 50.0 | {cell} |"
    results = {Row("maskgan"): point(50.0, 0.5)}
    unpasted = only(sweep, pasted=False) | {Row(RECONSTRUCTION, 0.0): point(0.0, 0.6)}
    assert unpadded(matched_identity(results, unpasted))[-1] == "| MaskGAN | 0.500 | 50.0 | 99.0 |"


def test_leak_to_the_reconstruction_leaves_its_error_out():
    heads = planted_heads()
    reconstruction = heads.photos.clone()
    reconstruction[:, :, 0] = 0  # a bad reconstruction, and an edit that changes nothing else but the mouth
    edited = reconstruction.clone()
    edited[:, 0, MOUTH[0], MOUTH[1]] = 250
    values = score(edited, heads, reconstruction).values()
    assert values[OWN_LEAK] == 0 < values[LEAK]


def test_smile_networks_are_kept_apart():
    heads = planted_heads()
    pictures = heads.smiling.clone()
    pictures[:, 0, MOUTH[0], MOUTH[1]] = 140  # 0.098 in [-1, 1]: over 0 and -0.2, under 0.2
    values = score(pictures, heads, heads.photos).values()
    assert [values[Column("smiling", judge)] for judge in SMILE_JUDGES] == [100, 0, 100]


def test_rows_show_only_what_makes_sense_for_them():
    heads = planted_heads()
    photo = score(heads.photos, heads, heads.photos, INPUT)
    ceiling = score(heads.smiling, heads, heads.photos, TRULY_SMILING)
    assert not {LEAK, IDENTITY} & photo.figures.keys()
    assert not {L2, DISTANCE, OWN_LEAK} & ceiling.figures.keys()
    assert LEAK in ceiling.figures
    for scores in (photo, ceiling):
        for figure in scores.figures.values():
            assert figure.samples == HEADS
            assert figure.low is None or figure.low - 1e-9 <= figure.value <= figure.high + 1e-9


def test_figures_do_not_depend_on_the_batch():
    heads = planted_heads()
    first, second = (measured(heads.photos, heads, batch) for batch in (2, 6))
    torch.testing.assert_close(first.features["efflite0"], second.features["efflite0"], rtol=0, atol=1e-6)
    torch.testing.assert_close(first.smile, second.smile, rtol=0, atol=1e-6)
    torch.testing.assert_close(first.lpips_alex, second.lpips_alex, rtol=0, atol=1e-6)


def test_embedding_is_measured_against_the_photos():
    heads = planted_heads()
    made = {"same": heads.photos, "other": heads.photos.roll(1, 0)}
    table = score_embedding(heads.photos, made, stand_ins(), batch=4, device=torch.device("cpu"))
    same, other = ({column: figure.value for column, figure in table[Row(name)].items()} for name in ("same", "other"))
    lpips, l2 = Column("embedding_lpips", "alex"), Column("embedding_l2")
    identity = Column("embedding_identity", "mobilefacenet")
    assert same == pytest.approx({lpips: 0, l2: 0, identity: 1})
    assert other[l2] > 0.01 < other[lpips] and other[identity] < 0.999


def test_different_people_leave_out_the_same_person():
    features = torch.eye(3, dtype=torch.float64)[[0, 0, 1]]
    assert different_people_cosine(features, [7, 7, 8]) == 0
    assert different_people_cosine(features, [1, 2, 3]) == pytest.approx(1 / 3)


RESULTS: Table = {
    Row(INPUT): {SMILING: Figure(6, 1.0), KID: Figure(6, 0.0123)},
    Row("editgan_plus_30", 2.5): {
        SMILING: Figure(6, 91.5, 88.7, 94.2),
        KID: Figure(6, -0.001),
        LEAK: Figure(6, 0.002, 0.001, 0.003),
    },
    Row("editgan_plus_30", 2.5, pasted=True): {SMILING: Figure(6, 0.1 + 0.2)},
    Row("encoder"): {Column("embedding_l2"): Figure(5, 0.25)},
}


def test_table_has_a_dash_where_a_figure_makes_no_sense():
    rows = {row: figures for row, figures in only(RESULTS, pasted=False).items() if row.method != "encoder"}
    lines = unpadded(table(rows))
    assert lines[0] == "| | % smiling, judge | KID6_efflite0 x1e3 | leak to input x1e3 |"
    assert lines[2] == "| input | 1.0 | 12.30 | – |"
    assert lines[3] == "| EditGAN+30 (ours) | 91.5 [88.7, 94.2] | -1.00 | 2.00 [1.00, 3.00] |"
    assert title_of("editgan_plus_10") == "EditGAN+10 (ours)"
    assert column_title(Column("fid", "inception"), 400) == "FID400_inception"


def test_long_table_comes_back_from_its_file():
    content = table_csv(RESULTS)
    assert content.decode().splitlines()[:2] == [
        "method,strength,pasted,metric,network,samples,value,low,high", "input,,false,smiling,judge,6,1.0,,",
    ]  # fmt: skip
    again = parse_table(content, "results.csv")
    assert again[Row("editgan_plus_30", 2.5, pasted=True)][SMILING].value == 0.3, "rounded to six decimals"
    assert table_csv(again) == content and list(again) == list(RESULTS)
    assert metrics_of(again) == {
        "smile_test6": {
            "input": {"smiling_judge": 1.0, "kid6_efflite0": 0.0123},
            "editgan_plus_30": {"smiling_judge": 91.5, "kid6_efflite0": -0.001, "leak_to_input": 0.002},
            "editgan_plus_30_pasted": {"smiling_judge": 0.3},
        },
        "embedding_val5": {"encoder": {"embedding_l2": 0.25}},
    }


@pytest.mark.parametrize("content", [b"", b"method,value\n", table_csv(RESULTS)[:-9], b"\xff\xfe", b"\0"])
def test_damaged_table_is_named(content):
    with pytest.raises(UserError, match="results.csv: damaged"):
        parse_table(content, "results.csv")


def test_figures_of_heads_come_back_with_what_they_are_of(tmp_path):
    said = {(Row(EDITGAN, 2.5), SMILING): torch.tensor([0.0, 100.0]), (Row(INPUT), L2): torch.tensor([0.1, 0.7])}
    for half, tolerance in ((False, 0), (True, 5e-4)):
        save_heads(tmp_path / "heads.safetensors", said, {"data": 1}, half=half)
        again, about = load_heads(tmp_path / "heads.safetensors")
        assert about == {"data": 1} and list(again) == list(said)
        for key, values in said.items():
            torch.testing.assert_close(again[key], values, rtol=0, atol=tolerance)
