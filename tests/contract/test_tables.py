"""Texts and labels come in as they stand in the file, whatever the file is; and what is wrong with it is one line."""

import csv
import gzip
import io
import json
import os
import random
import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from eqnp.app.cli import main
from eqnp.config import load_config
from eqnp.errors import ConfigError, DataError
from eqnp.text import sources
from eqnp.text.corpora import load_corpus, load_unlabelled
from eqnp.text.sources import is_path, splits_of
from eqnp.text.tables import Reading
from tests.runs import weights

COLUMNS = {"text": "text"}
ROWS = [("hot sun", "hot"), ("cold ice", "cold"), ("sun, and fire", "hot")]


def read(path, **options) -> list[tuple[str, str]]:
    """The texts and the names of their labels, as a corpus has them."""
    corpus = load_corpus(str(path), COLUMNS, "label", **options)
    return list(zip(corpus.texts["text"], (corpus.classes[label] for label in corpus.labels), strict=True))


def notes(path, **options) -> str:
    """What is said about a file that can be read."""
    return "\n".join(load_corpus(str(path), COLUMNS, "label", **options).notes)


def refused(path, **options) -> str:
    """The one line about a file that cannot be read."""
    with pytest.raises(DataError) as caught:
        load_corpus(str(path), COLUMNS, "label", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def table(rows, separator=",", header=("text", "label")) -> str:
    """A table as Python's `csv` writes it."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows([header, *rows] if header else rows)
    return text.getvalue()


def written(path, content: str | bytes):
    """A file with this content."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def write(path, rows) -> None:
    """Rows in the format that a name ends in."""
    ending = path.name.partition(".")[2]
    if ending == "parquet":
        columns = {"text": [text for text, _ in rows], "label": [label for _, label in rows]}
        pa.parquet.write_table(
            pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), path
        )
        return
    objects = [{"text": text, "label": label} for text, label in rows]
    content = {
        "csv": lambda: table(rows),
        "tsv": lambda: table(rows, "\t"),
        "jsonl": lambda: "".join(json.dumps(row) + "\n" for row in objects),
        "ndjson": lambda: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in objects),
        "json": lambda: json.dumps(objects, indent=1),
        "txt": lambda: "".join(f"__label__{label} {text}\n" for text, label in rows),
    }[ending.removesuffix(".gz")]()
    written(path, gzip.compress(content.encode()) if ending.endswith(".gz") else content)


# ---- what is written is what is read ----------------------------------------------------------------------

ODD = st.sampled_from(
    ["0043", "1.10", "1e6", "TRUE", "null", "NA", "2020-01-11 10:00:00", '"', '""', "a,b", "a\tb", "'"]
)
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
OFTEN = st.sampled_from(list('",;\t\r\n\u2028\u00ad\u200b\ufeff\u0085 0-1é😀'))
WORDS = st.one_of(ODD, st.text(CHARACTERS, max_size=20), st.text(st.one_of(OFTEN, CHARACTERS), max_size=20))
TEXT = WORDS.filter(str.strip)
LABEL = WORDS.map(str.strip).filter(lambda label: label not in ("", "-", "-1"))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "tsv", "csv.gz", "tsv.gz", "json", "ndjson", "jsonl.gz"])
@given(rows=st.lists(st.tuples(TEXT, LABEL), min_size=1, max_size=12))
@example(rows=[("a\tb\nc", "x"), ('"', '"'), ('a\nb"\tc\nd', "1.0"), ("d", "1")])
@example(rows=[("1", "7"), ("\u200b", "05"), ("-", "5"), ("x\r", "5.0"), ("\ry\n\n", "+")])
def test_texts_and_labels_are_read_as_they_were_written(tmp_path_factory, ending, rows):
    """If this fails, a user trains on other texts or labels than are in the file, and is not told."""
    path = tmp_path_factory.mktemp("written") / f"data.{ending}"
    write(path, rows)
    assert read(path) == rows


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A few bytes flipped, quotes and separators put in, and lines cut, doubled or broken."""
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(content))
        kind = rng.randrange(6)
        if kind == 0:
            content = content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]
        elif kind == 1:
            content = (
                content[:place] + rng.choice([b'"', b'"', b",", b"\n", b"\r", b";", b"\t", b"\0"]) + content[place:]
            )
        elif kind == 2:
            content = content[:place]
        elif kind == 3:
            content = content[:place] + content[place + rng.randint(1, 30) :]
        else:
            lines = content.splitlines(keepends=True)
            line = rng.randrange(len(lines))
            content = b"".join(lines[:line] + ([lines[line]] * 2 if kind == 4 else []) + lines[line + 1 :])
        if not content:
            return b"\n"
    return content


def test_damaged_tables_are_read_as_csv_has_them_or_refused(tmp_path):
    """If this fails, a damaged table is trained on in part, or ends in a traceback."""
    rng, read_well = random.Random(0), 0
    words = ["sun", "ice", "a, b", 'the "hot" one', "two\nlines", "café", "0043"]
    path = tmp_path / "data.csv"
    for _ in range(2000):
        rows = [(" ".join(rng.choices(words, k=3)), rng.choice(["hot", "cold", "1"])) for _ in range(rng.randint(3, 8))]
        content = mutated(table(rows).encode(), rng)
        path.write_bytes(content)
        try:
            corpus, complaint = load_corpus(str(path), COLUMNS, "label"), ""
        except DataError as error:
            corpus, complaint = None, str(error)
        if corpus is None:
            assert "\n" not in complaint
            assert str(path) in complaint
            continue
        lines = io.StringIO(content.decode("utf-8-sig"), newline="")
        reader, spanning, expected = csv.reader(lines, strict=True), 0, []
        header = [name.strip() for name in next(row for row in reader if row)]
        before = reader.line_num
        for row in reader:
            if row:
                expected.append((row[header.index("text")], row[header.index("label")].strip()))
                spanning += reader.line_num > before + 1
            before = reader.line_num
        expected = [pair for pair in expected if pair[1] != "-"]
        assert list(zip(corpus.texts["text"], (corpus.classes[i] for i in corpus.labels), strict=True)) == expected
        assert (f"over several lines in {spanning} row(s)" in "".join(corpus.notes)) == (spanning > 0)
        read_well += 1
    assert 200 < read_well < 1900


def test_a_damaged_table_is_one_line_of_the_command(tmp_path, capsys, monkeypatch):
    """If this fails, the command line says more, or less, than the reader does."""
    monkeypatch.chdir(tmp_path)
    for name, content in (
        ("a.csv", 'text,label\n"a,b\n'),
        ("b.tsv", "text\tlabel\na\n"),
        ("c.jsonl", '{"text": 1,}\n'),
    ):
        written(tmp_path / name, content)
        assert main(["prepare", "--data", name, "--out", "p"]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"eqnp: {tmp_path / name}: line")
        assert error.count("\n") == 1
    assert not (tmp_path / "p").exists()


# ---- tables of text ---------------------------------------------------------------------------------------


def test_values_keep_their_form(tmp_path):
    """If this fails, codes, numbers and truths of a table become other words or classes."""
    content = "text,label\n0043,01\n1.10,02\n1e6,01\nTRUE,02\n"
    assert read(written(tmp_path / "a.csv", content)) == [("0043", "01"), ("1.10", "02"), ("1e6", "01"), ("TRUE", "02")]
    lines = '{"text": 1.10, "label": "a"}\n{"text": 43, "label": "b"}\n{"text": true, "label": "a"}\n'
    assert read(written(tmp_path / "a.jsonl", lines)) == [("1.10", "a"), ("43", "b"), ("True", "a")]
    late = "text,label,note\n" + "hot,a,\nice,b,\n" * 6000 + "sun,a,word\n"
    assert len(read(written(tmp_path / "late.csv", late))) == 12_001
    assert read(written(tmp_path / "true.csv", "text,label\nhot,TRUE\ncold,FALSE\n"))[0] == ("hot", "TRUE")


def test_numbers_as_labels_keep_their_meaning(tmp_path):
    """If this fails, the classes of a table with numbers are in another order, or match other numbers by chance."""
    numbers = written(tmp_path / "a.csv", "text,label\n" + "".join(f"t{i},{i % 12}\n" for i in range(24)))
    assert load_corpus(str(numbers), COLUMNS, "label").classes == tuple(map(str, range(12)))
    stars = written(
        tmp_path / "b.csv", "text,label\nhot,5\ncold,1\nsun,10\n"
    )  # 1 may stand for a class, the others not
    assert load_corpus(str(stars), COLUMNS, "label").classes == ("1", "5", "10")
    named = written(tmp_path / "c.csv", "text,label\nhot,1\ncold,0.0\n")
    assert read(named, classes=("cold", "hot")) == [("hot", "hot"), ("cold", "cold")]
    assert read(stars, classes=("10", "5", "1")) == [("hot", "5"), ("cold", "1"), ("sun", "10")]
    assert "which number is which" in refused(named, classes=("cold", "hot"), numbered=False)
    unknown = refused(stars, classes=("cold", "hot"))
    assert "unknown label '5' (3 row(s) with classes that are not known, the first in row 1)" in unknown
    assert "leave such rows out, or train on data with all classes" in unknown
    assert """or with --set 'data.classes=["cold", "hot", "1", "10", "5"]'""" in unknown
    assert read(stars, classes=("cold", "hot", "1", "10", "5")) == [("hot", "5"), ("cold", "1"), ("sun", "10")]
    for classes, found in (
        (("1", "2", "3"), [("hot", "1"), ("cold", "2")]),  # classes that are numbers match by what they are
        (("2", "1"), [("hot", "1"), ("cold", "2")]),
    ):
        rows = written(tmp_path / "e.csv", "text,label\nhot,1.0\ncold,2.0\n")
        assert read(rows, classes=classes) == found
    for labels in ("0\ncold,1", "1\ncold,0"):
        assert "unknown label '0'" in refused(
            written(tmp_path / "e.csv", f"text,label\nhot,{labels}\n"), classes=("1", "2")
        )
    mixed = written(tmp_path / "e.csv", "text,label\nhot,hot\ncold,0\n")
    assert "unknown label '0'" in refused(mixed, classes=("cold", "hot"))
    odd = written(tmp_path / "e.jsonl", '{"text": "a", "label": 0.99999999999999999999}\n{"text": "b", "label": 0}\n')
    assert "fractions" in refused(odd)
    large = written(
        tmp_path / "e.jsonl", '{"text": "a", "label": 12345678901234567890123}\n{"text": "b", "label": "x"}\n'
    )
    assert read(large)[0] == ("a", "12345678901234567890123")
    minus = written(tmp_path / "d.csv", "text,label\nhot,1\ncold,-1\nsun,0\n")
    assert """--set 'data.classes=["-1", "0", "1"]'""" in refused(minus)
    assert read(minus, classes=("-1", "0", "1"))[1] == ("cold", "-1")


def test_quotes_between_tabs_count_only_if_all_of_the_file_agrees(tmp_path):
    """If this fails, a quote in one text of a TSV file swallows rows, or texts keep the quotes of who wrote them."""
    plain = [f"the sun {i}\thot" for i in range(20)]
    for lines, kept in (
        ({4: '"the lake\thot', 11: '"the hill\thot'}, {4: '"the lake', 11: '"the hill'}),
        ({4: '"the lake\thot'}, {4: '"the lake'}),
        ({4: '"\thot', 11: 'said "so"\thot', 15: '"\thot'}, {4: '"', 11: 'said "so"', 15: '"'}),
        ({4: '"the "old" lake"\thot'}, {4: '"the "old" lake"'}),
    ):
        content = [lines.get(i, line) for i, line in enumerate(plain)]
        path = written(tmp_path / "a.tsv", "\n".join(["text\tlabel", *content]))
        assert [text for text, _ in read(path)] == [kept.get(i, f"the sun {i}") for i in range(20)]
        assert "quotes are part of the texts" in notes(path)
    torn = 'text\tlabel\n"nl\there ""a"""\tcold\nx "y"\thot\n"q"\thot\n'  # consistent neither way
    assert "line 3: a quote in a field without quotes around it" in refused(written(tmp_path / "a.tsv", torn))
    rows = [('say "hi"', "hot"), ("two\nlines", "cold"), ("a tab\tinside", "hot"), ("plain", "cold")]
    path = written(tmp_path / "b.tsv", table(rows, "\t"))
    assert read(path) == rows
    assert "not part of them" in notes(path)
    assert "over several lines in 1 row(s)" in notes(path)
    assert notes(written(tmp_path / "c.tsv", table(ROWS, "\t"))) == ""


def test_rows_of_another_width(tmp_path):
    """If this fails, an unquoted comma costs half of every text, or a trailing comma a whole file."""
    wide = written(tmp_path / "a.csv", "text,label\n" + "the sky, the sun,hot\n" * 3)
    assert f"{wide}: line 2: 3 field(s), where the header has 2" in refused(wide)
    assert "must stand in double quotes" in refused(wide)
    later = written(tmp_path / "a.csv", 'text,label\n"two\nlines",hot\n\na,b,c\n')
    assert "line 5: 3 field(s)" in refused(later)
    short = written(tmp_path / "a.csv", "text,label\nhot sun,hot\ncold\n")
    assert "line 3: 1 field(s)" in refused(short)
    assert "broken over two lines" in refused(short)
    last = written(tmp_path / "a.csv", "label,text\nhot,sun\ncold,ice and,\n")
    assert "line 3: 3 field(s)" in refused(last)
    unnamed = written(tmp_path / "a.csv", "label,text,\nhot,sun and, fire\ncold,ice\n")
    assert "line 2: 3 field(s), where the header has 2" in refused(unnamed)
    unnamed = written(tmp_path / "a.csv", "text,label,\nsun and, fire,hot\nice,cold,\n")
    assert "line 2: 3 field(s), where the header has 2" in refused(unnamed)
    for content in (
        "text,label\nhot sun,hot,\ncold ice,cold,\n",
        "text,label,\nhot sun,hot,\ncold ice,cold,\n",
        "text,label,\nhot sun,hot\ncold ice,cold\n",
        "text,label\nhot sun,hot,\ncold ice,cold\n",
        ",text,label\n1,hot sun,hot\n2,cold ice,cold\n",
        "\ntext,label\n\nhot sun,hot\n\ncold ice,cold\n\n",
    ):
        assert read(written(tmp_path / "a.csv", content)) == [("hot sun", "hot"), ("cold ice", "cold")]
    for named in ("0,hot sun,hot\n1,cold ice,cold\n", '"3","hot sun","hot"\n"17","cold ice","cold"\n'):
        path = written(tmp_path / "a.csv", f"text,label\n{named}")
        assert read(path) == [("hot sun", "hot"), ("cold ice", "cold")]
        assert "as in R" in notes(path)
    assert "line 2" in refused(written(tmp_path / "a.csv", "text,label\n" + "9" * 5000 + ",x,y\n"))
    streets = written(tmp_path / "a.csv", "text,label\n12, Main street,hot\n7, Side street,cold\n")
    assert "line 3: it begins with '7'" in refused(streets)
    unclosed = written(tmp_path / "a.csv", 'text,label\nhot,hot\n"cold,cold\nsun,hot\n')
    assert "lines 3 to 4: a quote opens there and is never closed" in refused(unclosed)
    inner = written(tmp_path / "a.csv", 'text,label\n"the "old" lake",hot\n')
    assert "double a quote that is part of a text" in refused(inner)


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "txt"])
def test_files_of_blanks_alone(tmp_path, ending):
    """If this fails, an empty export is a traceback, or a riddle."""
    for content in ("\n\n", "  \n", "text,label" if ending == "csv" else "\n"):
        assert "there are no rows" in refused(written(tmp_path / f"a.{ending}", content))


def test_blanks_around_names_make_no_classes(tmp_path):
    """If this fails, "hot " is a class beside "hot", or a column is not found for a blank before its name."""
    path = written(tmp_path / "a.csv", " text, label\n hot sun ,hot \ncold,\tcold\nlava,hot\u00a0\n")
    assert read(path) == [(" hot sun ", "hot"), ("cold", "cold"), ("lava", "hot")]
    lines = '{" text": " x ", "label ": " hot "}\n{" text": "y", "label ": "hot"}\n'
    assert read(written(tmp_path / "a.jsonl", lines)) == [(" x ", "hot"), ("y", "hot")]
    assert "row 1 has no label" in refused(written(tmp_path / "a.csv", "text,label\nhot sun, \n"))
    twice = written(tmp_path / "a.csv", "text,label,text \na,b,c\n")
    assert "2 columns are called 'text'" in refused(twice)


def test_the_header_tells_the_separator(tmp_path):
    """If this fails, tables of other countries' spreadsheets cannot be read."""
    path = written(tmp_path / "a.csv", 'text;label\nhot, very hot;hot\n"a;b";cold\n')
    assert read(path) == [("hot, very hot", "hot"), ("a;b", "cold")]
    assert "separated by ';'" in notes(path)
    assert read(written(tmp_path / "a.csv", "text\tlabel\nhot, sun\thot\n")) == [("hot, sun", "hot")]
    assert read(written(tmp_path / "a.csv", "id;x,text,label\n1;2,hot,hot\n")) == [("hot", "hot")]
    assert read(written(tmp_path / "a.csv", "sep=;\ntext;label\na, b;hot\n")) == [("a, b", "hot")]
    assert read(written(tmp_path / "a.csv", 'sep=|\ntext|label\n"a|b"|hot\n')) == [("a|b", "hot")]


def test_tables_without_a_header(tmp_path):
    """If this fails, the first text of a table without a header is lost, or the table cannot be read."""
    options = {"columns": {"text": "1"}, "label": "2", "reading": Reading(header=False)}
    for separator in ",;":
        path = written(tmp_path / "a.csv", table(ROWS, separator, header=None))
        corpus = load_corpus(str(path), **options)
        assert list(corpus.texts["text"]) == [text for text, _ in ROWS]
        assert corpus.classes == ("cold", "hot")
    path = written(tmp_path / "a.csv", table(ROWS, header=None))
    assert "--set data.header=false" in refused(path)
    assert "it has '1', '2'" in refused(path, reading=Reading(header=False))
    assert "--set data.columns.text=1" in refused(path, reading=Reading(header=False))
    both = load_corpus(str(written(tmp_path / "a.csv", "3,5;pos\n4,5;neg\n")), **options)
    assert "separated by ',', as in each row (';' would do too)" in both.notes[0]
    spanning = written(tmp_path / "a.csv", 'hello; x;pos\n"bye\nmoon, a; b";y;neg\n')
    assert (
        list(load_corpus(str(spanning), {"text": "1"}, "3", reading=options["reading"]).texts["text"])[1]
        == "bye\nmoon, a; b"
    )
    uneven = written(tmp_path / "a.csv", "a,b\nc\n")
    with pytest.raises(DataError, match=r"line 2: 1 field\(s\), where line 1 has 2"):
        load_corpus(str(uneven), **options)


# ---- encodings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "byte", "cure"),
    [("latin-1", "0xe9", "cp1252"), ("cp1252", "0xe9", "cp1252"), ("utf-16", "0xff", "utf-16")],
)
def test_other_encodings(tmp_path, encoding, byte, cure):
    """If this fails, a file of another encoding cannot be read, or nobody says which line it is and what would help."""
    rows = [("hot sun", "hot"), ("un café", "cold"), ("l'été\u2028!", "hot")]
    rows = rows if encoding == "utf-16" else [(text.replace("\u2028", ""), label) for text, label in rows]
    path = written(tmp_path / "a.csv", table(rows).encode(encoding))
    message = refused(path)
    assert f"byte {byte}" in message
    assert f"--set data.encoding={cure}" in message
    if encoding != "utf-16":
        assert "row 2 (line 3)" in message
        assert "at place 7 of the line" in message
    assert read(path, reading=Reading(encoding)) == rows
    assert read(written(tmp_path / "a.csv.gz", gzip.compress(path.read_bytes())), reading=Reading(encoding)) == rows
    lines = "".join(json.dumps({"text": t, "label": y}, ensure_ascii=False) + "\n" for t, y in rows)
    assert read(written(tmp_path / "a.jsonl", lines.encode(encoding)), reading=Reading(encoding)) == rows


def test_marks_of_byte_order_are_no_text(tmp_path):
    """If this fails, the first column of what a spreadsheet wrote is not found."""
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"):
        write(tmp_path / name, ROWS)
        written(tmp_path / name, b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
        assert read(tmp_path / name) == ROWS


def test_encodings_that_a_file_contradicts(tmp_path):
    """If this fails, a file is read as another encoding than it has, and every word of it is another one."""
    for encoding in ("utf-16-le", "utf-16-be"):
        content = table(ROWS).encode(encoding)  # without a mark, and valid UTF-8 full of zeros
        path = written(tmp_path / "a.csv", content)
        for reading in (Reading(), Reading(header=False), Reading("latin-1")):
            assert f"--set data.encoding={encoding}" in refused(path, reading=reading)
        assert read(path, reading=Reading(encoding)) == ROWS
    for encoding in ("utf-16", "utf-32"):
        path = written(tmp_path / "a.csv", table(ROWS).encode(encoding))
        assert f"--set data.encoding={encoding}" in refused(path, reading=Reading("cp1252"))
        assert read(path, reading=Reading(encoding)) == ROWS
    rows = [("un café", "hot"), ("ice", "cold")]
    marked = written(tmp_path / "a.csv", table(rows).encode("utf-8-sig"))
    assert read(marked, reading=Reading("cp1252")) == rows
    assert "is read as UTF-8, as its byte order mark says" in notes(marked, reading=Reading("cp1252"))
    unmarked = written(tmp_path / "a.csv", table(rows).encode())
    assert "it is valid UTF-8 too" in notes(unmarked, reading=Reading("cp1252"))
    assert notes(written(tmp_path / "a.csv", table(rows).encode("cp1252")), reading=Reading("cp1252")) == ""
    korean = [("한국", "a"), ("한글", "b")]
    for encoding in ("iso2022_kr", "euc_kr", "shift_jis", "gb18030"):
        rows = ROWS if encoding == "shift_jis" else korean
        assert read(written(tmp_path / "a.csv", table(rows).encode(encoding)), reading=Reading(encoding)) == rows
    with pytest.raises(ConfigError, match=r"unknown data.encoding 'rot13'"):
        load_config("mini-sentiment", ["data.encoding=rot13"])


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_line_ends_of_any_kind(tmp_path, end):
    """If this fails, a file of an old Mac, or one without a last line end, is a traceback or one long line."""
    for last in ("", end):
        assert read(written(tmp_path / "a.csv", end.join(["text,label", "hot,a", "x,b"]) + last)) == [
            ("hot", "a"),
            ("x", "b"),
        ]
    assert "line 2" in refused(written(tmp_path / "a.csv", f"text,label{end}x"))
    mixed = written(tmp_path / "a.csv", "text,label\nhot,a\rcold,b\r\nsun,a\rx,b")
    assert [text for text, _ in read(mixed)] == ["hot", "cold", "sun", "x"]
    assert list(load_unlabelled(str(written(tmp_path / "b.txt", f"one{end}x")), COLUMNS)["text"]) == ["one", "x"]


def test_files_that_are_something_else(tmp_path):
    """If this fails, a spreadsheet or a cut download is read as garbage, or ends in a traceback."""
    assert "export its table as .csv" in refused(written(tmp_path / "a.csv", b"PK\x03\x04...."))
    assert "ends in .parquet" in refused(written(tmp_path / "a.csv", b"PAR1...."))
    assert "ends in '.xlsx'" in refused(written(tmp_path / "a.xlsx", b"PK"))
    packed = gzip.compress(table(ROWS * 50).encode())
    assert read(written(tmp_path / "a.csv", packed)) == ROWS * 50
    assert "cannot be read" in refused(written(tmp_path / "a.csv.gz", packed[:-20]))
    assert "compressed twice" in refused(written(tmp_path / "a.csv.gz", gzip.compress(packed)))
    assert "export its table as .csv" in refused(written(tmp_path / "a.csv.gz", gzip.compress(b"PK\x03\x04...")))
    os.mkfifo(tmp_path / "b.csv")
    assert "no regular file" in refused(tmp_path / "b.csv")
    (tmp_path / "c.csv").symlink_to("nowhere.csv")
    assert "is a link to nowhere.csv, which is not there" in refused(tmp_path / "c.csv")
    assert "cannot be read as Parquet" in refused(written(tmp_path / "a.parquet", b"PAR1 not really"))


# ---- other formats ----------------------------------------------------------------------------------------


def test_objects_arranged_in_other_ways(tmp_path):
    """If this fails, what pandas or a service writes as JSON is refused without a hint, or read wrong."""
    objects = [{"text": text, "label": label, "meta": {"id": [1]}} for text, label in ROWS]
    columns = {key: [row[key] for row in objects] for key in ("text", "label")}
    for value in (
        objects,
        objects[:1] + [{**row, "more": 1} for row in objects[1:]],
        {"version": "1", "data": objects},
        columns,
        {key: {str(i): value for i, value in enumerate(values)} for key, values in columns.items()},
        {
            "text": {str(i): row["text"] for i, row in enumerate(objects)},
            "label": {"2": "hot", "0": "hot", "1": "cold"},
        },
    ):
        assert read(written(tmp_path / "a.json", json.dumps(value))) == ROWS
        assert read(written(tmp_path / "a.json", json.dumps(value, indent=2))) == ROWS
    lines = "".join(json.dumps(row) + "\n\n" for row in objects)
    assert read(written(tmp_path / "a.json", lines)) == ROWS
    assert read(written(tmp_path / "a.jsonl", lines)) == ROWS
    assert "line 2 is no JSON" in refused(written(tmp_path / "a.jsonl", '{"text": "a", "label": "b"}\n{"text"}\n'))
    assert "line 2 is '[1]'" in refused(written(tmp_path / "a.jsonl", '{"text": "a", "label": "b"}\n[1]\n'))
    assert "a list of objects" in refused(written(tmp_path / "a.json", '["a", "b"]'))
    assert "differ in their rows" in refused(written(tmp_path / "a.json", '{"text": ["a"], "label": []}'))
    inner = written(tmp_path / "a.jsonl", '{"text": "a", "label": "x", "meta": [{"text": "inner", "label": "y"}]}\n')
    assert read(inner) == [("a", "x")]
    assert "the key 'text' is there twice" in refused(written(tmp_path / "a.jsonl", '{"text": "a", "text": "b"}\n' * 2))
    assert "2 columns are called 'text'" in refused(written(tmp_path / "a.jsonl", '{"text": "a", "text ": "b"}\n' * 2))
    nested = written(tmp_path / "a.jsonl", '{"text": {"a": "b"}, "label": "b"}\n' * 2)
    assert "a dict in row 1: {'a': 'b'}; a text column is needed" in refused(nested)
    assert "lone surrogate" in refused(written(tmp_path / "a.jsonl", '{"text": "\\ud800", "label": "b"}\n'))
    missing = written(tmp_path / "a.jsonl", '{"text": "a", "label": "b"}\n{"text": null, "label": "b"}\n')
    assert "1 empty text(s), the first in row 2" in refused(missing)


def test_parquet_of_other_types(tmp_path):
    """If this fails, columns of categories or numbers are refused, or dates become words unasked."""
    path = tmp_path / "a.parquet"
    texts = pa.array(["hot sun", "cold ice", "hot sun"]).dictionary_encode()
    pa.parquet.write_table(pa.table({"text": texts, "label": pa.array([1, 0, 1], pa.int8())}), path)
    assert read(path) == [("hot sun", "1"), ("cold ice", "0"), ("hot sun", "1")]
    pa.parquet.write_table(pa.table({"text": pa.array([b"x"]), "label": ["a"]}), path)
    assert "a bytes in row 1" in refused(path)
    pa.parquet.write_table(pa.table({"text": pa.array(["x", None]), "label": ["a", "b"]}), path)
    assert "first in row 2" in refused(path)
    pa.parquet.write_table(pa.table({"text": pa.array([], pa.string()), "label": pa.array([], pa.string())}), path)
    assert "no rows" in refused(path)
    for names in (["text", "text", "label"], ["text", "text ", "label"]):
        pa.parquet.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], names), path)
        assert "2 columns are called 'text'" in refused(path)
    pa.parquet.write_table(pa.table({"text": pa.array([b"caf\xe9"]).view(pa.string()), "label": ["a"]}), path)
    assert "cannot be read to its end" in refused(path)
    pa.parquet.write_table(pa.table({"text": pa.array([3_000_000], pa.date32()), "label": ["a"]}), path)
    assert "cannot be read to its end" in refused(path)


def test_fasttext_lines(tmp_path):
    """If this fails, fastText's own files are refused, or a label becomes a word."""
    path = written(tmp_path / "a.txt", "__label__hot  the sun, __label__ or not\n\n__label__cold\tice\r\n")
    assert read(path) == [("the sun, __label__ or not", "hot"), ("ice", "cold")]
    corpus = load_corpus(str(path), {"text": "body"}, "kind")  # lines name no columns
    assert list(corpus.texts["text"]) == ["the sun, __label__ or not", "ice"]
    assert "line 2 has 2 labels" in refused(written(tmp_path / "a.txt", "__label__a x\n__label__a __label__b y\n"))
    assert "line 2 has 2 labels" in refused(written(tmp_path / "a.txt", "__label__a x\n__label__a x y __label__b\n"))
    assert "line 2 has no label" in refused(written(tmp_path / "a.txt", "__label__a x\ny\n"))
    assert "line 3 has no label; lines of a .txt file must be: __label__NAME text" in refused(
        written(tmp_path / "a.txt", "\n\nx\n")
    )
    blank = written(tmp_path / "a.txt", "__label__hot\u00a0dog  \u00a0x\n__label__cold y\n")
    assert read(blank) == [("\u00a0x", "hot\u00a0dog"), ("y", "cold")]
    further = load_unlabelled(
        str(written(tmp_path / "b.txt", " one text\n__label__a another, yes\n")), {"text": "body"}
    )
    assert list(further["text"]) == [" one text", "another, yes"]


def test_a_folder_of_texts(tmp_path):
    """If this fails, the IMDB archive as it is unpacked cannot be read, or its unlabelled texts become a class."""
    for split, names in (("train", ("neg", "pos", "unsup")), ("test", ("neg", "pos"))):
        for name in names:
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(3):
                written(tmp_path / split / name / f"{i}.txt", f"{split} {name} {i}\nmore")
        written(tmp_path / split / "urls.txt", "no text")
    (tmp_path / "train" / "pos" / ".hidden").touch()
    train = read(tmp_path / "train")
    assert train == [(f"train {name} {i}\nmore", name) for name in ("neg", "pos") for i in range(3)]
    assert "unsup: left out: it has no labels (3 texts)" in notes(tmp_path / "train")
    assert splits_of(str(tmp_path)) == ["train", "test"]
    assert read(tmp_path, split="test")[0] == ("test neg 0\nmore", "neg")
    assert read(tmp_path) == train
    further = load_unlabelled(str(tmp_path / "train"), COLUMNS)
    assert list(further["text"]) == [f"train unsup {i}\nmore" for i in range(3)]
    assert list(load_unlabelled(str(tmp_path / "train" / "unsup"), COLUMNS)["text"]) == list(further["text"])
    assert "give a file of it" in refused(tmp_path / "train" / "pos")
    (tmp_path / "train" / "neutral" / "deeper").mkdir(parents=True)
    (tmp_path / "train" / "pos" / "lost.txt").symlink_to("nowhere")
    assert "neutral without files: no class" in notes(tmp_path / "train")
    assert "2 entries that are no files are left out" in notes(tmp_path / "train")
    empty = written(tmp_path / "train" / "pos" / "empty.txt", " ")
    assert f"{empty}: is empty" in refused(tmp_path / "train")
    assert "no split 'validation'" in refused(tmp_path, split="validation")


def test_several_files_are_one_corpus(tmp_path, monkeypatch):
    """If this fails, data in parts cannot be read, or a message names the wrong file or row."""
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "part-1.csv", table(ROWS[:2]))
    write(tmp_path / "part-2.jsonl", ROWS[2:])
    assert read("part-*") == ROWS
    assert load_corpus(["part-2.jsonl", "part-1.csv"], COLUMNS, "label").texts["text"][0] == ROWS[2][0]
    written(tmp_path / "part-3.csv", "text,label\nx,hot\n ,hot\n")
    assert "the first in row 2 of part-3.csv" in refused("part-*")
    assert "no file has such a name" in refused("parts-*")
    config = load_config("mini-sentiment", given={"data.train": ["a.csv", "b.csv"]})
    assert config.data.train == ("a.csv", "b.csv")


FORMATS = (
    "data.tsv",
    "data.csv.gz",
    "data.tsv.gz",
    "data.jsonl",
    "data.ndjson",
    "data.json",
    "data.txt",
    "data.parquet",
)


def test_the_same_texts_in_any_format_give_the_same_weights(tmp_path, monkeypatch):
    """If this fails, the format of a file decides what is learned from it."""
    monkeypatch.chdir(tmp_path)
    rng = random.Random(0)
    words = {"cold": ["ice", "snow", '"frost"'], "hot": ["fire", "sun", "lava, red"]}
    rows = [(f"there was {rng.choice(words[y])} and {rng.choice(words[y])} {i}", y) for y in words for i in range(100)]
    for name in ("data.csv", *FORMATS):
        write(tmp_path / name, rows)
    written(tmp_path / "semicolon.csv", table(rows, ";"))
    written(tmp_path / "part-1.csv", table(rows[:70]))
    written(tmp_path / "part-2.csv", table(rows[70:]))
    written(tmp_path / "no_header.csv", table(rows, header=None))
    for number, (text, label) in enumerate(rows):
        (tmp_path / "folder" / label).mkdir(parents=True, exist_ok=True)
        written(tmp_path / "folder" / label / f"{number:03}.txt", text)
    (tmp_path / "link.csv").symlink_to(tmp_path / "data.csv")
    for odd in ("a::b", "$HOME"):
        (tmp_path / odd).mkdir()
        write(tmp_path / odd / "data.csv", rows)
    by_number = ["--set", "data.header=false", "--set", 'data.columns={text="1"}', "--set", 'data.label="2"']
    sources = [[name] for name in (*FORMATS, "semicolon.csv", "folder", "link.csv", "a::b/data.csv", "$HOME/data.csv")]
    options = ["--set=training.epochs=1", "--set=vectors.dimension=8", "--set=network.hidden=[6]", "--threads=1"]

    def trained(number: int, data: list[str], more=()) -> dict:
        given = [argument for name in data for argument in ("--data", name)]
        assert main(["train", *given, *more, *options, "--out", f"run{number}"]) == 0
        return weights(f"run{number}")

    expected = trained(0, ["data.csv"])
    for number, data in enumerate([*sources, ["part-*.csv"], ["part-1.csv", "part-2.csv"]], start=1):
        assert trained(number, data) == expected, data
    assert trained(99, ["no_header.csv"], by_number) == expected
    assert main(["train", "run12/config.toml", "--out", "again"]) == 0  # which names its files in full
    assert weights("again") == expected


# ---- paths, and names on the hub --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["data/train", "./x/y", "../x", "/x/y", "~/x", "x/y/z", "x/y.csv", "x.csv.gz", "X.CSV", "x/*.csv", "x.xlsx"]
)
def test_what_looks_like_a_path_is_not_asked_for_on_the_hub(tmp_path, monkeypatch, name):
    """If this fails, a mistyped path costs half a minute of retries before it is refused."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "_asked", lambda name: pytest.fail("asked the hub"))
    assert is_path(name)
    refused(name)


def test_the_hub_is_asked_once_and_not_for_long(monkeypatch, tmp_path):
    """If this fails, a mistyped name on the hub hangs, or ends in a page of retries."""
    huggingface_hub = pytest.importorskip("huggingface_hub")
    monkeypatch.chdir(tmp_path)
    asked = []

    def no_answer(self, name, timeout=None):
        asked.append((name, timeout))
        raise OSError("cannot be reached")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", no_answer)
    for _ in range(2):
        message = refused("nobody/nothing-of-that-name")
        assert "cannot be reached" in message
        assert "--data FILE" in message
    assert asked == [("nobody/nothing-of-that-name", 5.0)]
    assert not is_path("stanfordnlp/imdb")


def test_what_was_decided_is_said(tmp_path, capsys, monkeypatch):
    """If this fails, a decision about a file is made in silence by one of the commands, or takes several lines."""
    monkeypatch.chdir(tmp_path)
    content = table(
        [(f"the {word} of {i}", "a\nb" if word == "sun" else "c") for i in range(20) for word in ("sun", "ice")]
    )
    written(tmp_path / "quoted.csv", content)
    written(tmp_path / "more.csv", "text;other\nthe sun;1\n")
    options = ["--set=training.epochs=1", "--set=vectors.dimension=4", "--set=network.hidden=[3]", "--threads=1"]
    assert main(["train", "--data", "quoted.csv", "--unlabelled", "more.csv", *options, "--out", "run"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert any("quoted.csv: a field goes over several lines in 20 row(s)" in line for line in said)
    assert any("more.csv: fields are separated by ';'" in line for line in said)
    assert "data: 36 train, 4 validation; classes a\\nb, c" in said
    assert main(["evaluate", "run", "--data", "quoted.csv"]) == 0
    assert "over several lines in 20 row(s)" in capsys.readouterr().out
    written(tmp_path / "other\n.csv", "text,label\nx,d\n")
    assert main(["evaluate", "run", "--data", "other\n.csv"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_near_name_is_offered(tmp_path):
    """If this fails, a typo in a path is not answered with the file that is there."""
    written(tmp_path / "reviews.csv", table(ROWS))
    assert f"did you mean {str(tmp_path / 'reviews.csv')!r}?" in refused(tmp_path / "review.csv")


# ---- the cases of public reports --------------------------------------------------------------------------


def test_the_cases_of_public_reports(shared):
    """If this fails, an input that failed in other tools fails here again."""
    cases = shared / "cases"
    tables = ("bool_train", "bool_test", "zero_pad", "late_type", "trailing_comma", "row_names", "space2", "semicolon")
    others = ("ok.csv", "quote_one.tsv", "quote_two.tsv", "fasttext.txt", "json_nested.json", "json_columns.json")
    sizes = {name: len(read(cases / name)) for name in (*(f"{name}.csv" for name in tables), *others)}
    assert sizes.pop("late_type.csv") == 10_060
    assert set(sizes.values()) <= {20, 120}
    assert {label for _, label in read(cases / "space2.csv")} == {"hot", "cold"}
    assert {label for _, label in read(cases / "zero_pad.csv")} == {"01", "02"}
    assert [text for text, _ in read(cases / "codes.csv")][:3] == ["2.20", "1.10", "1e6"]
    assert read(cases / "dates.jsonl")[0] == ("2020-01-11 10:00:00", "hot")
    assert "line 2: 3 field(s)" in refused(cases / "index_all.csv")
    assert read(cases / "latin1.csv", reading=Reading("latin-1"))[0][0].startswith("café")
    latin = read(cases / "latin1.csv", reading=Reading("cp1252"))
    assert read(cases / "utf16.csv", reading=Reading("utf-16")) == latin


def test_a_column_can_be_taken_from_in_any_order(tmp_path):
    """If this fails, held-out texts are other texts than those of their labels."""
    rows = [(random.Random(i).choice(string.ascii_letters) * (i % 7 + 1) + "é", "ab"[i % 2]) for i in range(300)]
    write(tmp_path / "a.csv", rows)
    corpus = load_corpus(str(tmp_path / "a.csv"), COLUMNS, "label")
    order = np.random.default_rng(0).permutation(300)
    part = corpus.take(order[:100]).take(np.arange(99, -1, -1))
    assert list(part.texts["text"]) == [rows[i][0] for i in order[99::-1]]
    assert part.texts["text"][3:5] == [rows[order[96]][0], rows[order[95]][0]]


def in_parts(path, number: int) -> tuple[list, int]:
    """The rows of a file that so many ranks read, each its part, and how many of them go over several lines."""
    rows, spanning = [], 0
    for part in range(number):
        (table,) = sources.open_source(str(path), "train", ["text", "label"], labelled=True, reading=Reading())
        start, stop = (table.size * place // number for place in (part, part + 1))
        rows += [tuple(row) for row in table.part(["text", "label"], start, stop)] if start < stop else []
        spanning += table.spanning
    return rows, spanning


LINES = st.lists(
    st.tuples(st.text('ab\n\r",é;', min_size=1, max_size=9), st.sampled_from(["x", "y\nz", 'q"'])),
    min_size=1,
    max_size=9,
)


@given(rows=LINES, mark=st.booleans(), number=st.integers(2, 5))
@example(rows=[('a\n\n"b"\nc', "x")] * 5, mark=True, number=3)
def test_parts_of_a_table_are_all_of_it(tmp_path_factory, rows, mark, number):
    """If this fails, a rank begins to read within a text, and texts are lost, cut or there twice."""
    folder = tmp_path_factory.mktemp("parts")
    begins = b"\xef\xbb\xbf" if mark else b""
    files = {
        "rows.csv": begins + b'"text",label\n' + table(rows, header=None).encode(),
        "rows.jsonl": begins + "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows).encode(),
    }
    for name, content in files.items():
        assert in_parts(written(folder / name, content), number)[0] == rows
    every = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    for size in (1, 2, 100):
        pyarrow.parquet.write_table(every, folder / "rows.parquet", row_group_size=size)
        assert in_parts(folder / "rows.parquet", number)[0] == rows


def test_what_cannot_be_read_in_parts_says_so(tmp_path):
    """If this fails, ranks read parts of what has to be read from its beginning, or take a wrong guess for a row."""
    content = table(ROWS)
    for name, whole in {"a.csv": content.encode("utf-16"), "a.csv.gz": gzip.compress(content.encode())}.items():
        path, reading = written(tmp_path / name, whole), Reading("utf-16" if name == "a.csv" else "utf-8")
        (found,) = sources.open_source(str(path), "train", ["text", "label"], labelled=True, reading=reading)
        assert not found.size
    document = written(tmp_path / "a.json", json.dumps([{"text": "a", "label": "b"}]))
    tabs, named = (
        written(tmp_path / "a.tsv", table(ROWS, "\t")),
        written(tmp_path / "r.csv", "text,label\n1,a,b\n2,c,d\n"),
    )
    for path in (document, tabs, named):
        (found,) = sources.open_source(str(path), "train", ["text", "label"], labelled=True, reading=Reading())
        assert not found.size
    inches = written(tmp_path / "inches.csv", 'text,label\n5" long,a\n' + '"one\ntwo",b\n' * 30)
    with pytest.raises(DataError):
        in_parts(inches, 4)
    assert len(read(inches)) == 31
