"""The reader of tables: what people's programs write is read alike, and anything else is one clear error."""

import csv
import io
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editgan.data.sources.attributes import read_attributes
from editgan.data.tables import SEPARATORS, Table, named_files, nfc, number, read_table
from editgan.errors import UserError

ROWS = [["file", "smile", "person"], ["a.png", "0.5", 'Ann "A", Lee'], ["déjà.png", "1", "Bo; Li"], ["c d.png", "", ""]]
CELLS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=8)


def written(rows, *, separator=",", newline="\r\n", quoting=csv.QUOTE_MINIMAL) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=newline, quoting=quoting).writerows(rows)
    return text.getvalue()


def cells_of(table: Table) -> list[list[str]]:
    return [table.columns, *([row.cells[name] for name in table.columns] for row in table.rows)]


def as_read(rows) -> list[list[str]]:
    header = [nfc(nfc(cell).strip().casefold()) for cell in rows[0]]
    return [header, *([nfc(cell).strip() for cell in row] for row in rows[1:])]


@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_every_dialect_is_read_alike(separator, newline, mark, quoting, form):
    text = unicodedata.normalize(form, written(ROWS, separator=separator, newline=newline, quoting=quoting))
    assert cells_of(read_table(mark + text.encode(), "t.csv", ["file"])) == ROWS


@pytest.mark.parametrize(
    "text",
    [
        "file, smile\na.png, 1\n",
        " File ;SMILE;\n\n a.png ;1;\n;;\n",
        'sep=;\r\n"FILE";"Smile"\r\n"a.png";"1"\r\n',
        '"file" ,"smile" \n"a.png" ,"1"\n',
        "\ufeff\ufefffile\tsmile\ta_note, long\na.png\t1\t\n",
        "smile,file\n1,a.png",
    ],
)
def test_headers_and_cells_lose_blanks_and_letter_case(text):
    (row,) = read_table(text.encode(), "t.csv", ["file"]).rows
    assert (row.cells["file"], row.cells["smile"]) == ("a.png", "1")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b";;\n", "no column `file`"),
        ("file,name\na.png,é\n".encode("latin-1"), "line 2 contains the byte 0xE9, which is not UTF-8"),
        ("file\na.png\n".encode("utf-16"), "is text in UTF-16"),
        ("file\na.png\n".encode("utf-16-le"), "contains zero bytes"),
        (b"PK\x03\x04...", "is a spreadsheet or an archive"),
        (b"name;smile\na.png;1\n", "no column `file`.*has: name, smile .separated by semicolons"),
        (b"file,Smile,smile\na.png,1,1\n", "each column once .in any letter case., not twice: smile"),
        (b"file,,smile\na.png,x,1\n", "row 2: the cell 'x' is in a column without a name"),
        (b'file,smile\n"a.png,1\nb.png,1\n', "is not a CSV"),
        (b'file,smile\n"a.png"x,1\n', "is not a CSV"),
    ],
)
def test_what_is_no_table_is_one_line(content, fault):
    with pytest.raises(UserError, match=f"t.csv.*{fault}") as caught:
        read_table(content, "t.csv", ["file"])
    assert "\n" not in str(caught.value)


def test_rows_keep_the_numbers_of_a_spreadsheet_and_surplus_cells_are_kept():
    table = read_table(b"file,smile\n\na.png\nb.png,1,,2\n", "t.csv")
    assert [tuple(row) for row in table.rows] == [
        (3, {"file": "a.png", "smile": ""}),
        (4, {"file": "b.png", "smile": "1", "": "2"}),
    ]


def test_numbers_may_have_a_decimal_comma():
    given = ("0,5", "-1,25", ",5", "1e3", "1_000", "x", "", "1,234.5")
    assert [number(cell) for cell in given] == [0.5, -1.25, 0.5, 1000, None, None, None, None]


def test_names_stand_for_files_with_and_without_their_folders():
    files = ["mine/images/a.png", "mine/images/déjà.png", "mine/images/mine/images/a.png", "x/b.png"]
    known = named_files(files, ("mine/images/", "", "mine/"))
    assert known["a.png"] == files[0] and known["images/a.png"] == files[0] and known["x/b.png"] == files[3]
    assert known["mine/images/a.png"] == files[2], "the first of `above` counts"
    assert known[nfc("déjà.png")] == known[nfc("mine/images/déjà.png")] == files[1]
    twins = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    assert named_files(twins, ("",))["é.png"] is None


def attributes(text: str, files=("images/a.png", "images/b.png")):
    rejected, notes = [], []
    rows = read_attributes(text.encode(), "t.csv", list(files), ("images/", ""), rejected, notes, "images/")
    return rows, dict(rejected), notes


def test_columns_and_rows_without_a_use_are_named(tmp_path):
    table = tmp_path / "t.csv"
    rejected, notes = [], []
    content = (
        b"file;Smile;smlie;Hat;neutral\nimages\\a.png;0,5;1;red;\n./b.png;1;1;;images/a.png\nc.png;1;;;\nb.png;1;;;\n"
    )
    files = ["images/a.png", "images/b.png"]
    rows = read_attributes(content, table, files, ("images/", ""), rejected, notes, "images/")
    assert rows == {"images/a.png": {"smile": 0.5, "smlie": 1.0, "hat": "red"}, "images/b.png": None}
    reasons = dict(rejected)
    assert reasons["images/c.png"] == "has a row in t.csv, but the file does not exist"
    assert reasons["images/b.png"] == "t.csv, row 5: a second row for this file"
    assert notes == ["t.csv: columns that only an edits file or benchmark.yaml can use: smlie (is `smile` meant?), hat"]


@pytest.mark.parametrize("text", ["file,smile\nc.png,1\n", "file,smile\n"])
def test_table_that_fits_no_picture_is_refused(tmp_path, text):
    with pytest.raises(UserError, match="t.csv: no row fits a picture; .*the pictures are e.g. 'images/a.png'"):
        read_attributes(text.encode(), tmp_path / "t.csv", ["images/a.png"], ("images/", ""), [], [])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200) | st.lists(CELLS, max_size=20).map(lambda cells: ",".join(cells).encode()))
def test_any_bytes_are_a_table_or_an_error(content):
    try:
        assert isinstance(read_table(content, "t.csv"), Table)
    except UserError as error:
        assert str(error).startswith("t.csv")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=6),
    st.sampled_from(sorted(SEPARATORS)),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.booleans(),
)
def test_what_csv_writes_is_read_back(rows, separator, newline, quoting, marked):
    rows = [["file", "note"], *rows]
    text = written(rows, separator=separator, newline=newline, quoting=quoting)
    table = read_table(b"\xef\xbb\xbf" * marked + text.encode(), "t.csv", ["file"])
    assert cells_of(table) == as_read([row for row in rows if any(cell.strip() for cell in row)])


def test_every_truncation_is_a_table_or_an_error():
    content = b"\xef\xbb\xbf" + written(ROWS, separator=";", quoting=csv.QUOTE_ALL).encode()
    whole = cells_of(read_table(content, "t.csv", ["file"]))
    for length in range(len(content)):
        try:
            read = cells_of(read_table(content[:length], "t.csv", ["file"]))
        except UserError:
            continue
        assert [row for row in read[:-1]] == [row[: len(read[0])] for row in whole[: len(read) - 1]], length


@pytest.mark.slow
def test_a_thousand_mutated_tables_against_csv():
    """Whatever is read equals what Python's csv reads with one of the separators; the rest is refused."""
    rng, read = random.Random(0), 0
    for index in range(1000):
        rows = [["file", "smile", "note"]]
        notes = ['a "b"', "c;d", "é\te", ""]
        rows += [[f"{n}.png", rng.choice(["0", "1", "0,5"]), rng.choice(notes)] for n in range(5)]
        separator, quoting = rng.choice(sorted(SEPARATORS)), rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        text = written(rows, separator=separator, newline=rng.choice(["\n", "\r\n"]), quoting=quoting)
        content = bytearray(b"\xef\xbb\xbf" * rng.randrange(2) + text.encode())
        for _ in range(rng.randrange(4)):
            place = rng.randrange(len(content))
            change = rng.randrange(4)
            if change == 0:
                content[place] = rng.choice([rng.randrange(256), *b",;\t\"\n\r 'a"])
            elif change == 1:
                del content[place : place + rng.randrange(1, 5)]
            elif change == 2:
                content[place:place] = rng.choice([b'"', b"\n", b",", b";", b" ", bytes([rng.randrange(256)])])
            else:
                content = content[:place] or bytearray(b"f")
        content = bytes(content)
        try:
            cells = cells_of(read_table(content, "t.csv", ["file"]))
        except UserError:
            continue
        read += 1
        plain = content.decode("utf-8").lstrip("\ufeff")
        oracles = []
        for one in SEPARATORS:
            records = csv.reader(io.StringIO(plain, newline=""), delimiter=one, skipinitialspace=True)
            oracle = as_read([record for record in records if any(cell.strip() for cell in record)])
            named = [place for place, name in enumerate(oracle[0]) if name]
            oracles.append([[record[place] if place < len(record) else "" for place in named] for record in oracle])
        assert cells in oracles, (index, content)
    assert read > 300, "not all are refused"
