"""CSV and TSV: rows, columns, their types and ranges.

Rows are counted in one pass over the bytes, faster than lines can be read one by one. Values are read in full up to
`EXACT_BYTES`; in larger files, where that would take ten times as long as the pass, a part of them spread over the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from mnesis.files.explorers.columns import Column, looks_like_header
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean, plural, size_text
from mnesis.files.explorers.source import CHUNK_BYTES, Source

EXACT_BYTES = 16 << 20
SHOWN_COLUMNS = 60
"""More columns than these are counted, not read."""
_LINE_CHARS = 1 << 16
"""Lines of tables with too many columns are cut here: a row of a million fields takes a hundred megabytes."""
_LONGEST_LINE_CHARS = 1 << 20
_PIECE_BYTES = 1 << 17
_NOT_NEWLINE_OR_QUOTE = bytes(set(range(256)) - set(b'\n"'))


@dataclass(slots=True)
class Table:
    """What is known of the table so far.

    rows: line ends outside quotes, lines: all of them. pairs_up: quotes seem to stand where the csv module expects them.
    """

    delimiter: str
    columns: list[Column] = field(default_factory=list)
    width: int = 0
    has_header: bool = False
    rows: int = 0
    lines: int = 0
    inside_quotes: bool = False
    pairs_up: bool = True
    last: bytes = b""
    rows_read: int = 0
    other_widths: int = 0
    unreadable: int = 0

    @property
    def is_wide(self) -> bool:
        return self.width > len(self.columns)


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    beginning = source.text(_PIECE_BYTES)
    table = Table(delimiter_of(beginning, "\t" if kind.file_type == "tsv" else ","))
    _head(source, table, beginning)
    exact = source.size <= EXACT_BYTES
    for number, chunk in enumerate(source.text_chunks()):
        _count(table, chunk)
        if not exact and number % _stride(source.size) == 0:
            piece = source.decode(chunk[:_PIECE_BYTES])
            _read(table, piece, is_first=number == 0, is_cut=True)
            table.pairs_up &= number > 0 or _pairs_up(piece, table.delimiter)
    if exact:
        _read(table, source.text(EXACT_BYTES), is_first=True, is_cut=False)
    _write(source, report, kind, table, exact)
    return kind


def delimiter_of(text: str, likely: str) -> str:
    """The character that divides the first lines into the most even rows."""
    lines = [line[:_LINE_CHARS] for line in io.StringIO(text, newline=None)][:30]
    lines = lines[:-1] if len(lines) > 1 else lines

    def evenness(delimiter: str) -> tuple[float, bool, int]:
        widths = [len(row) for row in _rows(lines, delimiter) if isinstance(row, list) and row]
        first = widths[0] if widths else 1
        same = sum(1 for width in widths if width == first) / max(len(widths), 1)
        return (same if first > 1 else 0.0, delimiter == likely, first)

    best = max(",;\t|", key=evenness)
    return best if evenness(best)[0] > 0 else likely


def _rows(lines: Sequence[str] | Iterator[str], delimiter: str) -> Iterator[list[str] | None]:
    """Rows as the csv module reads them; None for a row with a field it refuses."""
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


def _head(source: Source, table: Table, beginning: str) -> None:
    """The first row names the columns, or shows how many there are."""
    lines = (line[:_LINE_CHARS] for line in io.StringIO(beginning, newline=None))
    rows = [row for row in islice(_rows(lines, table.delimiter), 20) if row]
    first = rows[0] if rows else []
    table.has_header = looks_like_header(first[:SHOWN_COLUMNS], rows[1:])
    table.width = _width(source, table.delimiter, len(first))
    names = first if table.has_header else [f"column {number}" for number in range(1, len(first) + 1)]
    table.columns = [Column(clean(name, 60)) for name in names[:SHOWN_COLUMNS]]


def _width(source: Source, delimiter: str, parsed: int) -> int:
    """Columns of the first row: as parsed, or counted by delimiters when the line goes on beyond what was parsed."""
    count = 0
    for number, chunk in enumerate(source.text_chunks()):
        ends = [at for at in (chunk.find(b"\n"), chunk.find(b"\r")) if at >= 0]
        end = min(ends, default=-1)
        if number == 0 and 0 <= end < _LINE_CHARS:
            return parsed
        count += chunk.count(delimiter.encode(), 0, end if end >= 0 else len(chunk))
        if end >= 0:
            break
    return max(count + 1, parsed) if parsed else 0


def _stride(size: int) -> int:
    """Of every so many chunks one is read: a megabyte in all, and more in larger files."""
    pieces = (1 << 20) // _PIECE_BYTES + size // (128 * _PIECE_BYTES)
    return max(size // CHUNK_BYTES // pieces, 1)


def _count(table: Table, chunk: bytes) -> None:
    """Counts line ends, and those outside quotes: only quotes and line ends matter, and `""` in a row cancels out."""
    newlines = chunk.count(b"\n")
    table.lines += newlines
    if b'"' not in chunk:
        table.rows += 0 if table.inside_quotes else newlines
    else:
        parts = chunk.translate(None, _NOT_NEWLINE_OR_QUOTE).replace(b'""', b"").split(b'"')
        table.rows += sum(part.count(b"\n") for part in parts[int(table.inside_quotes) :: 2])
        table.inside_quotes ^= len(parts) % 2 == 0
    table.last = chunk[-1:] or table.last


def _pairs_up(piece: str, delimiter: str) -> bool:
    """Whether quotes, counted, divide the beginning of the table into rows as the csv module does."""
    counted = Table(delimiter)
    _count(counted, piece.encode("utf-8", "replace"))
    rows = sum(1 for _ in _rows(io.StringIO(piece, newline=None), delimiter))
    return "\n" not in piece or abs(counted.rows - rows) <= 1


def _read(table: Table, text: str, *, is_first: bool, is_cut: bool) -> None:
    """Feeds the rows of a piece to the columns. A piece from the middle loses the rows it cuts."""
    lines = iter(io.StringIO(text, newline=None))
    if not is_first:
        next(lines, None)
    if is_cut:
        lines = iter(list(lines)[:-1])
    cut_at = _LINE_CHARS if table.is_wide else _LONGEST_LINE_CHARS
    # One more than counts, so that a longer row still shows as one.
    cut_row = 1 + (len(table.columns) if table.is_wide else table.width)
    rows = (row and row[:cut_row] for row in _rows((line[:cut_at] for line in lines), table.delimiter))
    if is_first and table.has_header:
        next(rows, None)
    while batch := list(islice(rows, 2_000)):
        _feed(table, batch)


def _feed(table: Table, batch: list[list[str] | None]) -> None:
    read = [row for row in batch if row]
    table.unreadable += sum(1 for row in batch if row is None)
    shown = len(table.columns)
    # The cut line of a wide table ends within a field, so only rows with one more than is shown are whole here.
    even = [row[:shown] for row in read if (len(row) > shown if table.is_wide else len(row) == table.width)]
    table.rows_read += len(even)
    table.other_widths += len(read) - len(even)
    for column, values in zip(table.columns, zip(*even, strict=True), strict=False):
        column.feed(values)


def _write(source: Source, report: Report, kind: Kind, table: Table, exact: bool) -> None:
    report.add(
        f"{kind.label}, {size_text(source.size)}, {_row_text(source, table, exact)}, {plural(table.width, 'column')}"
    )
    named = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}[table.delimiter]
    header = "the first row names the columns" if table.has_header else "no header row"
    report.add(f"Delimiter: {named}; {header}; encoding: {source.encoding_note}")
    if table.unreadable:
        report.add(
            f"{plural(table.unreadable, 'row')} with a field of more than {csv.field_size_limit():,} characters not read"
        )
    if table.other_widths and exact:
        report.add(f"{plural(table.other_widths, 'row')} of another width than the first")
    basis = "all rows" if exact else f"{table.rows_read:,} rows spread over the file; the row count is of all"
    lines = [column.describe() for column in table.columns]
    report.section(f"Columns, types and ranges of {basis}:", lines, SHOWN_COLUMNS, table.width)


def _row_text(source: Source, table: Table, exact: bool) -> str:
    if exact and not table.is_wide and not source.reached:
        return plural(table.rows_read + table.other_widths + table.unreadable, "row")
    # A quote that never closes, or one within a field, makes quoting meaningless: then a line is a row.
    trusted = table.pairs_up and not table.inside_quotes
    ends = table.rows if trusted else table.lines
    if not ends and b"\r" in source.head:
        ends = sum(chunk.count(b"\r") for chunk in source.text_chunks())
    ends += table.last not in (b"", b"\n", b"\r")
    rows = max(ends - int(table.has_header), 0)
    return plural(rows, "row") + source.reached + ("" if trusted else " (one per line: quotes do not pair up)")
