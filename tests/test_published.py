"""The paper's figures beside those of a run."""

from editgan.benchmark.published import PUBLISHED, differences, published_table
from editgan.scoring.table import Column, Figure, Row

FACTS = {"refine_steps": 3, "masks": 4, "heads": 16, "generator": "ffhq.pkl, 32 px"}


def test_each_figure_stands_beside_its_own():
    results = {
        Row("editgan", 2.0): {
            Column("smiling", "judge"): Figure(16, 12.5, 0.0, 25.0),
            Column("fid", "inception"): Figure(16, 9.0),
        },
        Row("editgan", 2.0, True): {Column("smiling", "judge"): Figure(16, 99.0)},
        Row("editgan_plus_3", 2.0): {Column("identity", "ir_se50"): Figure(16, 0.5)},
    }
    lines = published_table(results, FACTS).splitlines()
    assert len(lines) == 2 + len(PUBLISHED)
    cells = {line.split("|")[1].strip(): [one.strip() for one in line.split("|")[2:-1]] for line in lines[2:]}
    assert cells["EditGAN"] == ["91.5", "12.5 [0.0, 25.0]", "41.74", "9.00", "0.705", "\u2013"]
    assert cells["EditGAN+30"][5] == "0.500" and cells["MaskGAN"][1] == "\u2013"
    said = " ".join(differences(results, FACTS))
    assert "3 steps; the paper has 30" in said and "4 masks" in said and "ffhq.pkl, 32 px" in said
    usual = FACTS | {"refine_steps": 30, "masks": 16, "heads": 400}
    assert len(differences({}, usual)) == 8 and "without the published Inception" in " ".join(differences({}, usual))
