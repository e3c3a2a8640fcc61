"""Explorer of binary data: type by its first bytes, size, hash, dimensions of images."""

from __future__ import annotations

import hashlib
import struct

from mnesis.files.explorers.detect import Kind
from mnesis.files.explorers.report import Report, format_size
from mnesis.files.explorers.source import Source

_MAGIC = (
    (b"SQLite format 3", "SQLite database"),
    (b"PK\x03\x04", "zip archive"),
    (b"%PDF-", "PDF document"),
    (b"\x89PNG\r\n\x1a\n", "PNG image"),
    (b"\xff\xd8\xff", "JPEG image"),
    (b"GIF8", "GIF image"),
    (b"BM", "BMP image"),
    (b"II*\0", "TIFF image"),
    (b"MM\0*", "TIFF image"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"BZh", "bzip2-compressed data"),
    (b"\xfd7zXZ\0", "xz-compressed data"),
    (b"\x28\xb5\x2f\xfd", "Zstandard-compressed data"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip archive"),
    (b"Rar!\x1a\x07", "RAR archive"),
    (b"\x7fELF", "ELF executable or library"),
    (b"MZ", "Windows executable or library"),
    (b"\xcf\xfa\xed\xfe", "Mach-O executable or library"),
    (b"\xca\xfe\xba\xbe", "Java class or Mach-O universal binary"),
    (b"\0asm", "WebAssembly module"),
    (b"OggS", "Ogg media"),
    (b"fLaC", "FLAC audio"),
    (b"ID3", "MP3 audio"),
    (b"\x1aE\xdf\xa3", "Matroska or WebM media"),
    (b"PAR1", "Parquet table"),
    (b"ARROW1", "Arrow table"),
    (b"\x89HDF\r\n\x1a\n", "HDF5 data"),
    (b"\x93NUMPY", "NumPy array"),
    (b"wOFF", "WOFF font"),
    (b"wOF2", "WOFF2 font"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLE document (older Office)"),
)
_RIFF = {b"WAVE": "WAV audio", b"WEBP": "WebP image", b"AVI ": "AVI video"}


def explore(source: Source, report: Report, kind: Kind) -> Kind:
    """Describe the file in the report, and return its type."""
    if not source.size_bytes:
        report.add_line("The file is empty: 0 bytes")
        return kind
    report.add_line(f"Binary data: {content_type(source.head)}, {format_size(source.size_bytes)}")
    if size := image_size(source.head):
        report.add_line(f"Dimensions: {size[0]:,} × {size[1]:,} pixels")
    if source.head.startswith(b"\x1f\x8b") and source.size_bytes >= 18:
        (unpacked,) = struct.unpack("<I", source.read(source.size_bytes - 4, 4))
        report.add_line(f"It says to unpack to {unpacked:,} bytes (modulo 4 GB); it was not unpacked")
    if digest := source.sha256 or _hash_content(source):
        report.add_line(f"SHA-256: {digest}")
    report.add_line(f"First bytes: {source.head[:24].hex(' ')}")
    return kind


def content_type(head: bytes) -> str:
    """Return the name of the type of content that begins with `head`."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "RIFF media")
    if head[4:8] == b"ftyp":
        return "MP4 or QuickTime media"
    return next((label for magic, label in _MAGIC if head.startswith(magic)), "unknown type")


def image_size(head: bytes) -> tuple[int, int] | None:
    """Return the width and height in pixels, or None if the first bytes do not contain them."""
    if head.startswith(b"\x89PNG") and len(head) >= 24:
        return _unpack_pair(">II", head, 16)
    if head.startswith(b"GIF8") and len(head) >= 10:
        return _unpack_pair("<HH", head, 6)
    if head.startswith(b"BM") and len(head) >= 26:
        width, height = _unpack_pair("<ii", head, 18)
        return (abs(width), abs(height))
    return _jpeg_size(head) if head.startswith(b"\xff\xd8") else None


def _unpack_pair(form: str, head: bytes, offset: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, head, offset)
    return (first, second)


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker, length = head[at + 1], int.from_bytes(head[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = _unpack_pair(">HH", head, at + 5)
            return (width, height)
        at += 2 + max(length, 2)
    return None


def _hash_content(source: Source) -> str | None:
    digest, hashed = hashlib.sha256(), 0
    for chunk in source.chunks():
        digest.update(chunk)
        hashed += len(chunk)
    return digest.hexdigest() if hashed == source.size_bytes else None
