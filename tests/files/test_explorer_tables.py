"""CSV and TSV: rows are counted as the csv module counts them, columns typed, and samples called samples."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnesis.files.explorers import table
from tests.files.explored import text_of
from tests.support.samples import sampled


def column(text: str, name: str) -> str:
    return next(
        line.strip().removeprefix(f"{name}: ") for line in text.split("\n") if line.strip().startswith(f"{name}: ")
    )


def rows_of(text: str) -> int:
    found = re.search(r"([\d,]+) rows?\b", text)
    assert found
    return int(found[1].replace(",", ""))


def test_columns_have_types_ranges_empties_and_different_values() -> None:
    lines = ["id,price,when,ok,city,mixed,none"]
    lines += [
        f"{n},{n / 4},2026-01-{n % 28 + 1:02},{'true' if n % 2 else 'false'},{'' if n % 5 == 0 else 'Bonn'},{n if n % 10 else 'N/A'},"
        for n in range(100)
    ]
    text = text_of("a.csv", "\n".join(lines) + "\n")
    assert "100 rows, 7 columns" in text
    assert "types and ranges of all rows" in text
    assert column(text, "id") == "integer, 0 to 99, 100 different"
    assert column(text, "price") == "number, 0.0 to 24.75, 100 different"
    assert column(text, "when") == "date, 2026-01-01 to 2026-01-28, 28 different"
    assert column(text, "ok") == "boolean, 2 different: false, true"
    assert column(text, "city") == "text, 4 characters, 20 empty, 1 different: Bonn"
    assert column(text, "mixed") == "mostly integer (10 others), 1 to 99, 91 different"
    assert column(text, "none") == "empty"


@pytest.mark.parametrize(("delimiter", "word"), [(",", "comma"), (";", "semicolon"), ("\t", "tab"), ("|", "pipe")])
def test_the_delimiter_is_found(delimiter: str, word: str) -> None:
    text = text_of(
        "a.csv", "\n".join(delimiter.join(row) for row in (("a", "b", "c"), ("1", "x, y", "2"), ("3", "z", "4")))
    )
    assert f"Delimiter: {word};" in text
    assert "2 rows, 3 columns" in text


def test_a_first_row_of_values_is_no_header() -> None:
    text = text_of("a.csv", "1,x\n2,y\n3,z\n")
    assert "3 rows" in text
    assert "no header row" in text
    assert column(text, "column 1") == "integer, 1 to 3, 3 different"


_FIELDS = st.text(st.sampled_from('ab",\n\r 1;é'), max_size=8)


@settings(max_examples=sampled(150), deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), _FIELDS, _FIELDS), min_size=1, max_size=30),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_rows_are_counted_as_the_csv_module_writes_them(rows: list[tuple[int, str, str]], quoting: int) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=quoting, lineterminator="\r\n").writerows([("first", "second", "third"), *rows])
    assert rows_of(text_of("a.csv", written.getvalue())) == len(rows)


def test_rows_are_counted_across_the_pieces_a_file_is_read_in() -> None:
    counted = table.Table(",")
    content = b'a,b\n1,"x\ny"\n2,"z ""q"" w"\n3,"""\n"""\n'
    for at in range(len(content)):  # each byte on its own: every quote and line end lies on a border
        table._count_lines(counted, content[at : at + 1])
    assert (counted.rows, counted.lines, counted.inside_quotes) == (4, 6, False)


@pytest.mark.parametrize("marked", [2, 3])
def test_quotes_within_fields_do_not_swallow_rows(marked: int) -> None:
    text = text_of("a.csv", "size,name\n" + '5" pipe,x\n' * marked + "2,y\n")
    assert rows_of(text) == marked + 1


def test_quotes_within_fields_of_a_large_table_make_each_line_a_row() -> None:
    line = 'pipe of 5" and more words,x\n'
    lines = table.EXACT_BYTES // len(line) // 2 * 2 + 2
    text = text_of("a.csv", "size,name\n" + line * lines)
    assert f"{lines:,} rows (one per line: quotes do not pair up)" in text


def test_a_large_table_counts_all_rows_and_says_that_ranges_are_of_a_part() -> None:
    block = "".join(f'{n},"name, {n}",{n / 8}\n' for n in range(1_000))
    blocks = table.EXACT_BYTES // len(block) + 2
    text = text_of("a.csv", "id,name,value\n" + block * blocks)
    assert rows_of(text) == blocks * 1_000
    part = re.search(r"types and ranges of ([\d,]+) rows spread over the file; the row count is of all", text)
    assert part
    assert 1_000 < int(part[1].replace(",", "")) < blocks * 1_000
    assert column(text, "id") == "integer, 0 to 999, 1,000 different"
    assert column(text, "value").startswith("number, 0.0 to 124.875")


def test_rows_of_other_widths_and_unreadable_fields_are_told() -> None:
    text = text_of("a.csv", "a,b\n1,2\n1,2,3\n4\n" + "x" * 200_000 + ",2\n5,6\n")
    assert "2 rows of another width than the first" in text
    assert "1 row with a field of more than 131,072 characters not read" in text
    assert column(text, "a") == "integer, 1 to 5, 2 different"


def test_old_line_ends_are_rows_too() -> None:
    assert rows_of(text_of("a.csv", "a,b\r1,2\r3,4\r")) == 2
    assert rows_of(text_of("a.csv", "a,b\r\n1,2\r\n3,4\r\n")) == 2


def test_names_above_numbers_are_a_header_even_if_one_stands_there_twice() -> None:
    text = text_of("a.csv", "id,value,value\n1,2,3\n4,5,6\n")
    assert "2 rows, 3 columns" in text
    assert "the first row names the columns" in text


def test_a_column_of_one_value_has_no_range() -> None:
    text = text_of("a.csv", "n,day\n7,2026-01-02\n7,2026-01-02\nx,\n")
    assert column(text, "n") == "mostly integer (1 other), 7, 2 different"
    assert column(text, "day") == "date, 2026-01-02, 1 empty, 1 different"
