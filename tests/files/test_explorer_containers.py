"""Databases, archives, documents and images are described without running, unpacking or trusting anything in them."""

from __future__ import annotations

import io
import sqlite3
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mnesis.files.explorers import explore, pdf, sqlite
from tests.files.explored import explored, text_of


@pytest.fixture
def database(tmp_path: Path) -> Callable[[str], bytes]:
    def made(script: str) -> bytes:
        path = tmp_path / "made.db"
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path)
        connection.executescript(script)
        connection.close()
        return path.read_bytes()

    return made


def test_a_database_shows_tables_columns_row_counts_indexes_and_views(database: Callable[[str], bytes]) -> None:
    text = text_of(
        "any.bin",
        database(
            """CREATE TABLE "two words" (id INTEGER PRIMARY KEY, name TEXT NOT NULL, size REAL);
            INSERT INTO "two words"(name) VALUES ('x'), ('y');
            CREATE TABLE "new\nline""quote" (x);
            CREATE INDEX by_name ON "two words"(name);
            CREATE VIEW names AS SELECT name FROM "two words";"""
        ),
    )
    for line in (
        "  table two words: 2 rows",
        "    id INTEGER (key), name TEXT not null, size REAL",
        '  table new line"quote: 0 rows',
        "Indexes: by_name",
        "Views: names",
    ):
        assert line in text.split("\n"), line


def test_exploring_a_database_changes_no_file(database: Callable[[str], bytes], tmp_path: Path) -> None:
    content = database("PRAGMA journal_mode=WAL; CREATE TABLE t (x);")
    path = tmp_path / "stored" / "content"
    path.parent.mkdir()
    path.write_bytes(content)
    beside = path.with_name("content-wal")
    beside.write_bytes(b"of somebody else")
    text = explore(path, "a.db").text
    assert "write-ahead log" in text
    assert "table t" in text
    assert path.read_bytes() == content
    assert beside.read_bytes() == b"of somebody else"
    assert sorted(one.name for one in path.parent.iterdir()) == ["content", "content-wal"]


def test_a_hostile_schema_is_named_and_not_run(database: Callable[[str], bytes]) -> None:
    content = database(
        """CREATE VIEW endless AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS i FROM n;
        CREATE VIRTUAL TABLE words USING fts5(text);
        CREATE TABLE plain (x DEFAULT (randomblob(1000000000)), y AS (zeroblob(1000000000)));
        INSERT INTO plain(x) VALUES (1);"""
    )
    text = text_of("a.db", content)
    assert "Views: endless" in text
    assert "virtual table words: CREATE VIRTUAL TABLE words USING fts5(text)" in text
    assert "table plain: 1 row\n" in text


def test_a_row_count_that_takes_too_long_is_given_up(
    database: Callable[[str], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = database(
        """CREATE TABLE many (x); CREATE TABLE few (x);
        INSERT INTO many WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) SELECT i FROM n;"""
    )
    monkeypatch.setattr(sqlite, "MAX_COUNT_SECONDS", -1.0)
    text = text_of("a.db", content)
    assert "table many: too many rows to count in time" in text
    assert "table few: 0 rows" in text


def zipped(entries: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return written.getvalue()


def test_a_zip_is_listed_with_its_ratio_and_a_bomb_is_called_one() -> None:
    text = text_of("a.zip", zipped({"a.txt": b"x" * 1_000, "bad\nname\x1b[31m": b"\0" * 20_000_000}))
    assert "2 entries" in text
    assert "  a.txt 1,000 bytes" in text
    assert "20,001,000 bytes" in text
    assert "zip bomb" in text
    assert "\x1b" not in text
    assert "bad name·[31m 20,000,000 bytes" in text


def test_office_documents_are_told_from_their_entries() -> None:
    assert text_of("x", zipped({"[Content_Types].xml": b"", "word/document.xml": b"<w/>"})).startswith(
        "Word document (zip)"
    )


def test_a_zip_with_a_huge_directory_is_not_listed() -> None:
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFE, 0xFFFE, 0x7000_0000, 0, 0)
    text = text_of("a.zip", b"PK\x03\x04" + b"\0" * 200 + end)
    assert "says to hold 65,534 entries" in text
    assert "too large to list" in text


def test_a_tar_is_listed_from_its_headers() -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in ("x/y.txt", "z" * 150):
            info = tarfile.TarInfo(name)
            info.size = 5
            archive.addfile(info, io.BytesIO(b"hello"))
    found = explored("a.tar", written.getvalue())
    assert found.file_type == "tar"
    assert "2 entries" in found.text
    assert "  x/y.txt 5 bytes" in found.text
    assert "z" * 100 in found.text


def portable_document(text: str) -> bytes:
    """One page that shows the text, written by hand."""
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Title (A title) >>",
    ]
    written, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size 7 /Root 1 0 R /Info 6 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(written)
    return written + b"xref\n0 7\n0000000000 65535 f \n" + table + trailer


def test_a_pdf_shows_pages_title_and_text() -> None:
    pytest.importorskip("pypdf")
    found = explored("report", portable_document("Words on a page"))
    assert (found.file_type, found.is_prose) == ("pdf", True)
    assert "1 page" in found.text
    assert "Title: A title" in found.text
    assert "Words on a page" in found.text


def test_a_pdf_without_its_library_is_read_by_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "find_spec", lambda name: None)
    text = text_of("a.pdf", portable_document("Words"))
    assert "1 page found by pattern" in text
    assert "pip install 'mnesis-context[files]'" in text
    assert "Title: A title" in text


def test_a_pdf_that_is_cut_off_says_so() -> None:
    text = text_of("a.pdf", portable_document("Words" * 1_000)[:700])
    assert "probably cut off" in text


def test_an_empty_page_is_no_failure() -> None:
    pypdf = pytest.importorskip("pypdf")
    writer, written = pypdf.PdfWriter(), io.BytesIO()
    writer.add_blank_page(100, 100)
    writer.write(written)
    assert "No text in its first pages" in text_of("a.pdf", written.getvalue())


def test_images_show_their_size_and_all_bytes_their_hash() -> None:
    text = text_of("a.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\2\0\0\0\1\0xxxx")
    assert "PNG image" in text
    assert "512 × 256 pixels" in text
    assert "SHA-256: 456ad079986e5b1580e3a19dfa959a126401cddf7fae1303ad4d4a940e734bb8" in text
    jpeg = b"\xff\xd8\xff\xe0\x00\x10" + b"\0" * 14 + b"\xff\xc0\x00\x11\x08\x01\x00\x02\x00" + b"\0" * 8
    assert "512 × 256 pixels" in text_of("a", jpeg)
