"""Explorer of zip and tar archives. It reads their directories only and unpacks nothing."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, clean_line, format_size, plural
from mnesis.files.explorers.source import Source

MAX_DIRECTORY_BYTES = 4 << 20
"""Larger directories are not listed, because entries take about ten times their size in memory."""
MAX_TAR_ENTRIES = 20_000
_SUSPICIOUS_RATIO = 200

_KNOWN_MEMBERS = {
    "word/document.xml": "Word document",
    "xl/workbook.xml": "Excel workbook",
    "ppt/presentation.xml": "PowerPoint presentation",
    "META-INF/MANIFEST.MF": "Java archive",
    "AndroidManifest.xml": "Android package",
    "META-INF/container.xml": "EPUB book",
    "content.xml": "OpenDocument file",
}


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    size_bytes: int


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    (_explore_zip if kind.file_type == "zip" else _explore_tar)(source, report)
    return kind


def _explore_zip(source: Source, report: Report) -> None:
    count, directory_bytes = _read_directory_size(source)
    if directory_bytes > MAX_DIRECTORY_BYTES:
        report.add_line(
            f"Zip archive, {format_size(source.size_bytes)}, says to hold {plural(count, 'entry', 'entries')}"
        )
        report.add_line(f"Its directory of {format_size(directory_bytes)} is too large to list")
        return
    with source.open() as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
    names = {info.filename for info in infos}
    label = next((label for name, label in _KNOWN_MEMBERS.items() if name in names), "Zip archive")
    report.add_line(
        f"{label}{'' if label == 'Zip archive' else ' (zip)'}, {format_size(source.size_bytes)}, {_entry_count(len(infos))}"
    )
    unpacked = sum(info.file_size for info in infos)
    ratio = unpacked / max(source.size_bytes, 1)
    report.add_line(f"Says to unpack to {format_size(unpacked)}, {ratio:,.1f} times its size; it was not unpacked")
    if ratio > _SUSPICIOUS_RATIO:
        report.add_line("Such a ratio is that of a zip bomb: do not unpack it without a limit")
    if any(info.flag_bits & 1 for info in infos):
        report.add_line("Entries are encrypted")
    _add_entries(report, (_Entry(info.filename, info.file_size) for info in infos), len(infos))


def _entry_count(count: int) -> str:
    return plural(count, "entry", "entries")


def _add_entries(report: Report, entries: Iterator[_Entry], count: int) -> None:
    report.add_section(
        "Entries:",
        (f"{clean_line(entry.name, 120)}  {entry.size_bytes:,} bytes" for entry in _take(entries, 60)),
        60,
        count,
    )


def _take(entries: Iterator[_Entry], at_most: int) -> Iterator[_Entry]:
    return (entry for entry, _ in zip(entries, range(at_most), strict=False))


def _read_directory_size(source: Source) -> tuple[int, int]:
    """Return the number of entries and the bytes of the central directory, as recorded at the end of the archive."""
    tail = source.read(max(source.size_bytes - 66_000, 0), 66_000)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or at + 22 > len(tail):
        raise ValueError("the zip archive is cut off: its directory is missing")
    count, size = struct.unpack_from("<HI", tail, at + 10)
    # Archives of more than 4 GB (ZIP64) have a larger end record before this one.
    end_64 = tail.rfind(b"PK\x06\x06", 0, at)
    if (count == 0xFFFF or size == 0xFFFFFFFF) and 0 <= end_64 <= len(tail) - 56:
        count, size = struct.unpack_from("<QQ", tail, end_64 + 32)
    return count, size


def _explore_tar(source: Source, report: Report) -> None:
    entries = list(_tar_entries(source))
    if not entries:
        raise ValueError("the tar archive has no readable entry")
    more = " and more" if len(entries) >= MAX_TAR_ENTRIES or source.is_expired else ""
    report.add_line(f"Tar archive, {format_size(source.size_bytes)}, {_entry_count(len(entries))}{more}")
    report.add_line(f"They hold {format_size(sum(entry.size_bytes for entry in entries))}")
    _add_entries(report, iter(entries), len(entries))


def _tar_entries(source: Source) -> Iterator[_Entry]:
    """Yield the entries, reading headers and skipping contents. A long name (type L) belongs to the next header."""
    at, long_name = 0, ""
    for _ in range(MAX_TAR_ENTRIES):
        header = source.read(at, 512)
        if source.is_expired or not _is_tar_header(header):
            return
        size = _parse_tar_number(header[124:136])
        content = at + 512
        at = content + (size + 511) // 512 * 512
        kind = header[156:157]
        if kind == b"L":
            long_name = _parse_tar_text(source.read(content, min(size, 4096)))
        elif kind not in b"xgK":
            name = "/".join(
                filter(
                    None,
                    (
                        _parse_tar_text(header[345:500]) if header[262:263] != b" " else "",
                        _parse_tar_text(header[:100]),
                    ),
                )
            )
            yield _Entry(long_name or name, size)
            long_name = ""


def _is_tar_header(header: bytes) -> bool:
    if len(header) < 512 or header[257:262] != b"ustar":
        return False
    return _parse_tar_number(header[148:156]) == sum(header[:148]) + sum(b" " * 8) + sum(header[156:])


def _parse_tar_number(digits: bytes) -> int:
    if digits[0] & 0x80:
        return int.from_bytes(digits[1:], "big")
    text = digits.split(b"\0", 1)[0].strip()
    return int(text, 8) if text else 0


def _parse_tar_text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")
