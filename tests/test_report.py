"""Stage `report`: one page from the results of a small project, with stand-ins for the networks."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from test_benchmark_stage import context, made  # noqa: F401  (fixtures)
from test_scores import HEADS, METHODS, SIZE

from editgan.benchmark import stage as benchmark_stage
from editgan.data.archive import write_archive
from editgan.errors import UserError
from editgan.images import read_image
from editgan.report import stage
from editgan.report.failures import failures
from editgan.report.params import ReportParams
from editgan.report.pictures import enlarged
from editgan.scoring import stage as scoring_stage
from editgan.scoring.table import Column, Figure, Row
from editgan.weights import write_json

LEARNED = {
    name: {"followed_start": 0.2, "followed_vector": reached, "vector_leak_mse_val4": leak}
    for name, reached, leak in (("smile", 0.9, 0.001), ("smile_mean", 0.3, 0.9))
}


@pytest.fixture
def reported(context, monkeypatch):  # noqa: F811
    """The context of the stage after the benchmark."""
    monkeypatch.setattr(stage, "git_tags", lambda root: {"git_dirty": "true"})
    benchmark_stage.run(context)
    return reporting(context)


def reporting(context):  # noqa: F811
    write_json(context.input("editing") / "metrics.json", LEARNED)
    (context.root / "edits.yaml").write_text(
        "smile: {about: corners of the mouth up & out}\nnever: {about: not learned}\n"
    )
    (context.root / "baseline" / "photographs").mkdir(parents=True, exist_ok=True)
    params = SimpleNamespace(**{**vars(context.params), "report": ReportParams(heads=2), "resolution": SIZE})
    out = context.root / "outputs" / "report"
    out.mkdir(exist_ok=True)
    return SimpleNamespace(**{**vars(context), "params": params, "out": out})


def page_of(context) -> str:  # noqa: F811
    stage.run(context)
    return (context.out / "index.html").read_text()


def test_page_is_one_file_in_the_order_that_a_reader_needs(reported):
    page = page_of(reported)
    titles = [
        "The first 2 test heads",
        "Results",
        "Smiles against identity",
        "Editing vectors",
        "Known failures",
        "Details",
    ]
    assert re.findall("<h2>(.*?)</h2>", page) == titles
    assert "http" not in page and "<script" not in page and "<link" not in page, "nothing is fetched"
    sources = re.findall('src="(.*?)"', page)
    assert len(sources) == page.count("<img") and all(one.startswith("data:image/png;base64,") for one in sources)
    assert page.count("<table>") == page.count('<div class="wide"><table>'), "tables scroll in their box"
    sections = re.findall("<summary>(.*?)</summary>", page)
    assert sections[0] == "The judges" and sections[-2:] == ["More pictures", "How this page was made"]
    assert page.index("<details>") > page.index("<h2>Details") and "stand-ins" in page and "hash of all inputs" in page
    assert f"smile benchmark on {HEADS} rendered heads" in page and "| --- |" not in page
    assert len(re.findall("<tr", page)) > 25, "tables are tables"
    assert "and changes on top" not in page, "commit and versions are not part of the result"
    assert "unknown and changes on top" in (reported.work / "index.html").read_text()


def test_page_is_byte_stable_and_counts_what_it_shows(reported):
    first = page_of(reported)
    assert page_of(reported) == first
    counts = json.loads((reported.out / "metrics.json").read_text())
    shown = len(METHODS) - ("interfacegan_conditional" in METHODS) + len(("input", "truth", "distillation", "maskgan"))
    assert counts["heads"] == 2 and counts["vectors"] == 1 and counts["methods"] == shown + 2, "reconstruction, refined"
    assert counts["failures"] == first.split("Known failures")[1].split("</ul>")[0].count("<li>")


def test_strip_goes_from_the_input_to_the_true_smile(reported):
    page = page_of(reported)
    strip = page[page.index('class="wide strip"') : page.index("<h2>Results")]
    captions = re.findall("<figcaption>(.*?)(?:<small>(.*?)</small>)?</figcaption>", strip)
    titles = [title for title, _ in captions]
    assert titles[:3] == ["input", "reconstruction", "EditGAN"] and titles[-1] == "truly smiling"
    assert "MaskGAN" in titles and dict(captions)["EditGAN"].startswith("strength ")
    assert dict(captions)["input"] == dict(captions)["MaskGAN"] == dict(captions)["reconstruction"] == ""
    side = enlarged(SIZE)
    assert side % SIZE == 0 and f'width="{side}" height="{2 * side}"' in strip
    column = read_image(reported.input("benchmark") / "columns" / "input.png")
    assert column.shape == (3, 3 * SIZE, SIZE), "the benchmark keeps grid_heads of them"


def test_headline_table_has_five_rows_and_three_columns(reported):
    page = page_of(reported)
    table = page[page.index("<h2>Results") : page.index("<h2>Smiles")]
    rows = re.findall("<tr.*?><td>(.*?)</td>(.*?)</tr>", table)
    ours = ["EditGAN", "EditGAN+ (ours)", "EditGAN+2 (ours)"]
    assert [title for title, _ in rows] == ["reconstruction", *ours, "InterFaceGAN"]
    assert all(cells.count("<td>") == 3 and cells.count("[") >= 2 for _, cells in rows)


def test_vectors_are_described_and_escaped(reported):
    page = page_of(reported)
    assert "<strong>smile</strong>: corners of the mouth up &amp; out" in page and "not learned" not in page
    assert 'alt="smile at strengths -2, -1, 0, 1, 2"' in page


def test_photographs_without_truth_and_maskgan(context, monkeypatch):  # noqa: F811
    monkeypatch.setattr(stage, "git_tags", lambda root: {"git_dirty": "false"})
    context.params.data.source = "folder"
    write_archive(context.input("data") / "test_smiling.zip", [], [], [])
    (context.input("maskgan") / "metrics.json").write_text('{"train_masks": 0}')
    scoring_stage.run(
        SimpleNamespace(**{**vars(context), "out": context.input("scoring"), "work": context.root / "again"})
    )
    benchmark_stage.run(context)
    page = page_of(reporting(context))
    assert f"smile benchmark on {HEADS} photographs" in page and "<h2>Photographs" not in page
    strip = page[page.index('class="wide strip"') : page.index("<h2>Results")]
    assert "MaskGAN" not in strip and "truly smiling" not in page.split("<h2>Known failures")[0]
    failed = page.split("<h2>Known failures")[1].split("</ul>")[0]
    assert "MaskGAN is left out" in failed and "There is no picture of a true smile" in failed


def test_accepted_photographs_have_a_section(reported):
    accepted = reported.root / "baseline" / "photographs"
    shutil.copy(reported.input("benchmark") / "results.csv", accepted)
    shutil.copytree(reported.input("benchmark") / "columns", accepted / "columns")
    page = page_of(reported)
    assert f"<h2>Photographs</h2>\n<p>The same benchmark on photographs of {HEADS} people" in page
    assert page.count('class="wide strip"') == 2 and page.index("Known failures") < page.index("<h2>Photographs")
    (accepted / "columns" / "input.png").unlink()
    with pytest.raises(UserError, match="columns/input.png: missing"):
        stage.run(reported)


def test_sentences_on_failures_follow_the_figures():
    def row(smiling: tuple[float, float, float], identity: float, **others: float) -> dict[Column, Figure]:
        judges = zip(("judge", "face_api_expression", "fer"), smiling, strict=True)
        figures = {Column("smiling", judge): Figure(400, value) for judge, value in judges}
        columns = {"kid": Column("kid", "efflite0"), "leak": Column("leak_to_reconstruction")}
        figures |= {columns[name]: Figure(400, value) for name, value in others.items()}
        return figures | {Column("identity", "mobilefacenet"): Figure(400, identity)}

    results = {
        Row("input"): row((4, 2, 4), 1.0),
        Row("reconstruction", 0.0): row((9, 3, 4), 0.82, kid=0.007),
        Row("editgan", 1.5): row((86, 84, 85), 0.7, kid=0.012, leak=0.016),
        Row("editgan_plus_30", 1.5): row((77, 28, 42), 0.75, kid=0.009, leak=0.002),
        Row("editgan_plus", 1.5): row((100, 95, 97), 0.72, kid=0.01, leak=0.006),
        Row("interfacegan", 6.0): row((99, 86, 94), 0.6, kid=0.022, leak=0.064),
    }
    spread = torch.linspace(-1, 1, 101)
    areas = {
        Row(name): {"judge": torch.cat([torch.tensor([value]), value + spread * (name != "interfacegan")])}
        for name, value in (("editgan_plus_30", 70.0), ("editgan_plus", 90.0), ("interfacegan", 80.0))
    }
    text = "\n".join(failures(results, areas, LEARNED, ["distillation"], "editgan_plus_30"))
    assert "an identity of 0.820 to the photo. The judge calls 9.0 % of the unedited" in text
    assert "Of 400 heads these do not smile, by the judge: EditGAN 56, EditGAN+ (ours) 0, EditGAN+30 (ours) 92." in text
    assert "disagree. EditGAN+30 (ours): 77.0 % by judge, 28.0 % by face_api_expression, 42.0 % by fer." in text
    assert "EditGAN+30 (ours) is not ahead of InterFaceGAN: by judge behind, -10.0 [" in text
    assert "EditGAN+ (ours) is not ahead" not in text
    assert "InterFaceGAN has the lowest identity (0.600; reconstruction 0.820)" in text
    assert "InterFaceGAN has the highest KID (22.00; reconstruction 7.00)" in text
    assert "less than half" not in text and "(mean squared error x1000): smile 1.0." in text
    assert "MaskGAN is left out" in text and text.endswith("still improved: StyleGAN2 Distillation.")
    weak = {**LEARNED, "smile": {**LEARNED["smile"], "followed_vector": 0.4}}
    assert "less than half of the requested change on their training heads: smile 25 %." in "\n".join(
        failures(results, areas, weak, [], "editgan_plus_30")
    )
