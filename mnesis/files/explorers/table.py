"""Explorer of CSV and TSV: rows, columns, their types and ranges.

Rows are counted in one pass over the bytes, which is faster than reading lines. All values are read up to `EXACT_BYTES`.
In larger files reading them would take ten times as long as the pass, so values are sampled across the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from mnesis.files.explorers.columns import Column, looks_like_header
from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.source import CHUNK_BYTES, Source

EXACT_BYTES = 16 << 20
SHOWN_COLUMNS = 60
"""Further columns are counted, not read."""
_LINE_CHARS = 1 << 16
"""The limit of a line in tables with too many columns, because a row of a million fields takes a hundred megabytes."""
_LONGEST_LINE_CHARS = 1 << 20
_PIECE_BYTES = 1 << 17
_NOT_NEWLINE_OR_QUOTE = bytes(set(range(256)) - set(b'\n"'))


@dataclass(slots=True)
class Table:
    """The state of reading a table.

    `rows` counts line ends outside quotes, `lines` all of them. `quotes_pair_up` means that counting quotes finds the same
    rows as the csv module.
    """

    delimiter: str
    columns: list[Column] = field(default_factory=list)
    width: int = 0
    has_header: bool = False
    rows: int = 0
    lines: int = 0
    inside_quotes: bool = False
    quotes_pair_up: bool = True
    last_byte: bytes = b""
    rows_read: int = 0
    other_widths: int = 0
    unreadable: int = 0

    @property
    def is_wide(self) -> bool:
        """Whether the table has more columns than are described."""
        return self.width > len(self.columns)


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    beginning = source.read_text(_PIECE_BYTES)
    table = Table(delimiter_of(beginning, "\t" if kind.file_type == "tsv" else ","))
    _read_header(source, table, beginning)
    exact = source.size_bytes <= EXACT_BYTES
    for number, chunk in enumerate(source.text_chunks()):
        _count_lines(table, chunk)
        if not exact and number % _stride(source.size_bytes) == 0:
            piece = source.decode(chunk[:_PIECE_BYTES])
            _read_rows(table, piece, is_first=number == 0, is_cut=True)
            table.quotes_pair_up &= number > 0 or _quotes_pair_up(piece, table.delimiter)
    if exact:
        _read_rows(table, source.read_text(EXACT_BYTES), is_first=True, is_cut=False)
    _write_report(source, report, kind, table, exact)
    return kind


def delimiter_of(text: str, likely: str) -> str:
    """Return the delimiter that splits the first lines most evenly, or `likely` if none splits them."""
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
    """Yield rows as the csv module reads them, and None for a row that it rejects."""
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield None


def _read_header(source: Source, table: Table, beginning: str) -> None:
    """Determine the number of columns and their names from the first row."""
    lines = (line[:_LINE_CHARS] for line in io.StringIO(beginning, newline=None))
    rows = [row for row in islice(_rows(lines, table.delimiter), 20) if row]
    first = rows[0] if rows else []
    table.has_header = looks_like_header(first[:SHOWN_COLUMNS], rows[1:])
    table.width = _width(source, table.delimiter, len(first))
    names = first if table.has_header else [f"column {number}" for number in range(1, len(first) + 1)]
    table.columns = [Column(clean_line(name, 60)) for name in names[:SHOWN_COLUMNS]]


def _width(source: Source, delimiter: str, parsed: int) -> int:
    """Return the number of columns: as parsed, or counted by delimiters if the first line is longer than the parsed
    part.
    """
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
    """Return the distance of sampled chunks: a megabyte is read in all, more in larger files."""
    pieces = (1 << 20) // _PIECE_BYTES + size // (128 * _PIECE_BYTES)
    return max(size // CHUNK_BYTES // pieces, 1)


def _count_lines(table: Table, chunk: bytes) -> None:
    """Count line ends, in all and outside quotes. A doubled quote cancels out."""
    newlines = chunk.count(b"\n")
    table.lines += newlines
    if b'"' not in chunk:
        table.rows += 0 if table.inside_quotes else newlines
    else:
        parts = chunk.translate(None, _NOT_NEWLINE_OR_QUOTE).replace(b'""', b"").split(b'"')
        table.rows += sum(part.count(b"\n") for part in parts[int(table.inside_quotes) :: 2])
        table.inside_quotes ^= len(parts) % 2 == 0
    table.last_byte = chunk[-1:] or table.last_byte


def _quotes_pair_up(piece: str, delimiter: str) -> bool:
    """Return whether counting quotes splits the beginning of the table into the same rows as the csv module does."""
    by_quotes = Table(delimiter)
    _count_lines(by_quotes, piece.encode("utf-8", "replace"))
    rows = sum(1 for _ in _rows(io.StringIO(piece, newline=None), delimiter))
    return "\n" not in piece or abs(by_quotes.rows - rows) <= 1


def _read_rows(table: Table, text: str, *, is_first: bool, is_cut: bool) -> None:
    """Feed the rows of a piece to the columns. Rows cut by the ends of the piece are skipped."""
    lines = iter(io.StringIO(text, newline=None))
    if not is_first:
        next(lines, None)
    if is_cut:
        lines = iter(list(lines)[:-1])
    cut_at = _LINE_CHARS if table.is_wide else _LONGEST_LINE_CHARS
    # Keep one field more than counted, so that longer rows are recognized.
    cut_row = 1 + (len(table.columns) if table.is_wide else table.width)
    rows = (row and row[:cut_row] for row in _rows((line[:cut_at] for line in lines), table.delimiter))
    if is_first and table.has_header:
        next(rows, None)
    while batch := list(islice(rows, 2_000)):
        _feed_columns(table, batch)


def _feed_columns(table: Table, batch: list[list[str] | None]) -> None:
    rows = [row for row in batch if row]
    table.unreadable += sum(1 for row in batch if row is None)
    width = len(table.columns)
    # A cut line of a wide table ends inside a field, so only rows with an extra field are complete here.
    whole_rows = [row[:width] for row in rows if (len(row) > width if table.is_wide else len(row) == table.width)]
    table.rows_read += len(whole_rows)
    table.other_widths += len(rows) - len(whole_rows)
    for column, values in zip(table.columns, zip(*whole_rows, strict=True), strict=False):
        column.feed(values)


def _write_report(source: Source, report: Report, kind: Kind, table: Table, exact: bool) -> None:
    report.add_line(
        f"{kind.label}, {format_size(source.size_bytes)}, {_row_text(source, table, exact)}, {plural(table.width, 'column')}"
    )
    named = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}[table.delimiter]
    header = "the first row names the columns" if table.has_header else "no header row"
    report.add_line(f"Delimiter: {named}; {header}; encoding: {source.encoding_note}")
    if table.unreadable:
        report.add_line(
            f"{plural(table.unreadable, 'row')} with a field of more than {csv.field_size_limit():,} characters not read"
        )
    if table.other_widths and exact:
        report.add_line(f"{plural(table.other_widths, 'row')} of another width than the first")
    basis = "all rows" if exact else f"{table.rows_read:,} rows spread over the file; the row count is of all"
    lines = [column.describe() for column in table.columns]
    report.add_section(f"Columns, types and ranges of {basis}:", lines, SHOWN_COLUMNS, table.width)


def _row_text(source: Source, table: Table, exact: bool) -> str:
    if exact and not table.is_wide and not source.progress_note:
        return plural(table.rows_read + table.other_widths + table.unreadable, "row")
    # If quotes do not pair up, each line counts as a row.
    trusted = table.quotes_pair_up and not table.inside_quotes
    ends = table.rows if trusted else table.lines
    if not ends and b"\r" in source.head:
        ends = sum(chunk.count(b"\r") for chunk in source.text_chunks())
    ends += table.last_byte not in (b"", b"\n", b"\r")
    rows = max(ends - int(table.has_header), 0)
    return plural(rows, "row") + source.progress_note + ("" if trusted else " (one per line: quotes do not pair up)")
