"""TSV and CSV: every field arrives as it stands in the file, and what the formats leave open is named."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_transformer.data import text_file
from lit_transformer.data.delimited import delimited_batches
from lit_transformer.errors import UserError
from lit_transformer.evaluation.bleu import score_translations

Pairs = list[tuple[str, str]]


def read(path: Path, source: str = "en", target: str = "de") -> Pairs:
    separator = "\t" if path.suffix == ".tsv" else ","
    batches = list(delimited_batches(path, separator=separator, source=source, target=target))
    return [pair for batch in batches for pair in zip(*(column.to_pylist() for column in batch), strict=True)]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def as_csv(rows: list[list[str]], *, quoting: int = csv.QUOTE_MINIMAL, line_end: str = "\r\n") -> str:
    file = io.StringIO(newline="")
    csv.writer(file, quoting=quoting, lineterminator=line_end).writerows(rows)  # type: ignore[arg-type]
    return file.getvalue()


def test_a_quotation_mark_in_tsv_is_a_character(tmp_path: Path) -> None:
    rows = [("A dog.", "Ein Hund."), ('"Stop.', "Halt."), *[("One.", "Eins.")] * 7, ('The desk".', "Der Tisch.")]
    path = write(tmp_path / "x.tsv", "en\tde\n" + "".join(f"{en}\t{de}\n" for en, de in rows))
    assert read(path) == rows


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_fields_are_text(tmp_path: Path, end: str) -> None:
    texts = [
        "NA",
        "null",
        "None",
        "nan",
        "1e5",
        "007",
        "1.0",
        "True",
        "2020-01-01",
        "#",
        " a ",
        "",
        "-",
        "\u2028",
        "'",
        "x",
    ]
    pairs = list(zip(texts, reversed(texts), strict=True))
    for name, separator in (("x.tsv", "\t"), ("x.csv", ",")):
        lines = [f"{number}{separator}{de}{separator}{en}" for number, (en, de) in enumerate(pairs)]
        path = write(tmp_path / name, (end or "\n").join([f"{separator}de{separator}en", *lines]) + end)
        assert read(path) == pairs
        assert read(path, "de", "en") == [(de, en) for en, de in pairs]


_FIELDS = st.text(st.sampled_from('ab",;\t\n\u00e4\U0001f600'), max_size=5)


@given(
    rows=st.lists(st.tuples(_FIELDS, _FIELDS, _FIELDS), min_size=1, max_size=7),
    block_bytes=st.integers(5, 23),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_csv_agrees_with_python(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str]],
    block_bytes: int,
    quoting: int,
    line_end: str,
) -> None:
    """Blocks of a few bytes split quoted fields and doubled quotation marks everywhere."""
    text = as_csv([["en", "id", "de"], *map(list, rows)], quoting=quoting, line_end=line_end)
    path = write(tmp_path_factory.mktemp("csv") / "x.csv", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_file, "BLOCK_BYTES", block_bytes)
        pairs = read(path)
    assert pairs == [(row[0], row[2]) for row in rows]


def test_carriage_returns_within_fields(tmp_path: Path) -> None:
    assert read(write(tmp_path / "x.csv", 'en,de\r\n"a\r\nb","c\rd"\r\ne\rf,g\r\n')) == [
        ("a\nb", "c\rd"),
        ("e\rf", "g"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.csv", 'en,de\n5" pipe,Rohr\n', r":2: a quotation mark"),
        ("x.csv", 'en,de\na,b\n"a" b,c\nd,e\n', r":3: a quotation mark"),
        ("x.csv", 'en,de\na, "b, c"\n', r":2: a quotation mark"),
        ("x.csv", 'en,de\n"a\nb",c\n"d,e\nf,g\n', r":4: .*quotation mark"),
        ("x.csv", "en,de\na,b\nc,d,e\n", r":3: .* 2 fields, .* 3;"),
        ("x.csv", 'en,de\n"a\n\n",b\nc\n', r":5: .* 2 fields, .* 1;"),
        ("x.tsv", "en\tde\na\tb\n\nc\td\n", r":3: .* 2 fields, .* 1; .*empty line"),
        ("x.csv", "en,de\na,b\n\n", r":3: .* 2 fields, .* 1; .*empty line"),
        ("x.tsv", "en\tde\na\tb\tc\n", r":2: .* 2 fields, .* 3;"),
        ("x.csv", "en;de\na;b\n", r":1: semicolons"),
        ("x.csv", "id;en;de\n1;a, b;c\n", r":1: semicolons"),
        ("x.csv", '"en";"de"\n"a";"b"\n', r":1: .*(semicolons|quotation mark)"),
        ("x.csv", "a;b\nc;d\n", r":1: semicolons"),
        ("x.csv", "en\tde\na\tb\n", r":1: tabs"),
        ("x.tsv", "en,de\na,b\n", r":1: commas"),
        ("x.tsv", '"en"\t"de"\na\tb\n', r":1: .*quotation marks"),
        ("x.csv", "en, de\na, b\n", r":1: .*spaces"),
        ("x.csv", "en,de,en\na,b,c\n", r":1: 2 .* en;"),
        ("x.csv", "en,fr\na,b\n", r"target is de, .* en, fr:"),
        ("x.tsv", "cs\tfr\na\tb\n", r"source is en, .* cs, fr:"),
        ("x.csv", "Source,Target\na,b\n", r"source is en, .* Source, Target:"),
        ("x.tsv", "Hi\tHej\na\tb\n", r"source is en, .* Hi, Hej: .*header with en and de"),
        ("x.tsv", "english\tgerman\tscore\na\tb\t1\n", r":1: .* 3 .*english, german, score"),
        ("x.csv", "sentence\na\n", r":1: .* 1 .*sentence"),
        ("x.csv", "en,de\ra,b\rc,d\r", r"2 lone .* 0 line feeds .*`tr "),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(UserError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unclosed_quotation_mark_does_not_read_the_whole_file_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", 'en,de\na,b\n"c,d\n' + "e,f\n" * 2**23)
    with pytest.raises(UserError, match=r"x\.csv:3: "):
        read(path)


def test_two_columns_without_a_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (write(tmp_path / "x.tsv", "a\tb\nc\td\n"), write(tmp_path / "x.csv", "a,b\nc,d\n")):
        assert read(path) == [("a", "b"), ("c", "d")]
        note = capsys.readouterr().err
        assert note.count("note: ") == 1
        assert str(path) in note
        assert "a / b" in note
    read(write(tmp_path / "y.tsv", "en\tde\na\tb\n"))
    assert not capsys.readouterr().err


def test_tsv_that_was_written_with_quoting_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read(write(tmp_path / "x.tsv", 'en\tde\n"Stop"\t"Halt"\n""\ta\n'))
    assert not capsys.readouterr().err
    path = write(tmp_path / "x.tsv", 'en\tde\n"He said ""stop"""\tx\na\t"""Halt"", sagte er"\na\tb\n')
    assert read(path)[0] == ('"He said ""stop"""', "x")
    note = capsys.readouterr().err
    assert "note: 2 texts" in note
    assert str(path) in note


def test_newstest_arrives_pair_by_pair(shared_data: Path, tmp_path: Path) -> None:
    """A perfect translation of what arrives scores 100."""
    texts = [
        (shared_data / f"newstest_en_de/newstest2014.{language}").read_bytes().decode() for language in ("en", "de")
    ]
    sources, references = (text.removesuffix("\n").split("\n") for text in texts)
    rows = list(zip(sources, references, strict=True))
    tsv = "en\tde\n" + "".join(f"{en}\t{de}\n" for en, de in rows)
    for path in (write(tmp_path / "x.tsv", tsv), write(tmp_path / "x.csv", as_csv([["en", "de"], *map(list, rows)]))):
        pairs = read(path)
        assert pairs == rows
        assert score_translations(references, [target for _, target in pairs], tokenize="13a").bleu == pytest.approx(
            100
        )
