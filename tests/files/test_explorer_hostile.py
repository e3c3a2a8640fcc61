"""Whatever a file holds, exploring it ends soon, in little memory, and says something in a few clean lines."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mnesis.files.explorers import explore
from tests.files.explored import explored, text_of
from tests.support.samples import sampled

SUFFIXES = "py js ts tsx java go rs c cpp h json jsonl csv tsv yaml toml xml html md txt log db pdf zip tar png bin ipynb svg".split()  # noqa: SIM905 - easier to read
STARTS = (
    b"",
    b"SQLite format 3\x00",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"%PDF-1.4\n",
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"\x1f\x8b",
    b"{",
    b"<a>",
)
IN_A_CHILD = ("js", "ts", "tsx", "java", "go", "rs", "c", "cpp", "h")


def is_clean(text: str) -> bool:
    return all(line.isprintable() and len(line) <= 220 for line in text.split("\n"))


@settings(max_examples=sampled(300), deadline=None)
@given(
    st.sampled_from([suffix for suffix in SUFFIXES if suffix not in IN_A_CHILD]),
    st.sampled_from([start for start in STARTS if not start.startswith(b"%PDF")]),
    st.one_of(st.binary(max_size=600), st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))),
    st.integers(0, 5_000),
)
@example("json", b"{", b'"a": "\\ud800"', 100)
def test_no_content_fails_or_escapes_the_limit(suffix: str, start: bytes, content: bytes, max_chars: int) -> None:
    found = explored(f"x.{suffix}", start + content, max_chars=max_chars)
    assert found.file_type
    assert len(found.text) <= max_chars
    assert is_clean(found.text)


@pytest.mark.parametrize("suffix", [*IN_A_CHILD, "pdf"])
def test_random_bytes_and_text_fail_no_reader_of_its_own_process(suffix: str) -> None:
    chance = random.Random(suffix)
    start = b"%PDF-1.7\n" if suffix == "pdf" else b""
    for content in (chance.randbytes(2_000), "".join(chance.choices("(){}<>;'\"/*=ab \n", k=5_000)).encode()):
        assert is_clean(text_of(f"x.{suffix}", start + content))


def test_names_with_newlines_and_controls_stay_on_their_line() -> None:
    hostile = 'id,"two\nlines\x1b[31m\u202egnp",x\n1,2,3\n'
    text = text_of("a\nb\x00.csv", hostile)
    assert is_clean(text)
    assert "two lines·[31m·gnp: integer, 2, 1 different" in text


@pytest.mark.parametrize(
    "source",
    [
        "-" * 200_000,
        "(" * 100_000,
        "a." * 100_000 + "a",
        "x+" * 100_000 + "1",
        "not " * 100_000 + "a",
        "f" + "()" * 100_000,
    ],
    ids=["minus", "brackets", "attributes", "sums", "nots", "calls"],
)
def test_python_that_exhausts_its_parser_is_survived_in_a_thread(source: str) -> None:
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(text_of("a.py", source + "\ndef seen(): ...\n")))
    thread.start()
    thread.join(60)
    assert "Python source" in found[0]
    assert "def seen()" in found[0]
    assert "Traceback" not in found[0]


def test_json_a_hundred_thousand_deep_needs_no_recursion() -> None:
    for content in ("[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000):
        found = explored("a.json", content)
        assert found.file_type == "json"
        assert "nested 100,000 levels deep" in found.text
        assert "ends inside" not in found.text
    assert "2 records" in text_of("a.jsonl", ("[" * 50_000 + "]" * 50_000 + "\n") * 2)


def test_yaml_aliases_stay_names() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    text = text_of("a.yaml", bomb)
    assert "81 aliases, not expanded" in text
    assert "b: list of 9 items" in text


def test_yaml_tags_make_no_objects(tmp_path: Path) -> None:
    target = tmp_path / "made"
    text_of("a.yaml", f"!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{target}']]\n")
    assert not target.exists()


def test_yaml_brackets_are_read_to_a_depth() -> None:
    assert "nested more than 200 deep" in text_of("a.yaml", "[" * 100_000)


def test_xml_entities_are_not_expanded_and_no_file_is_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("classified")
    bomb = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]><l>&b;</l>'
    outside = f'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a SYSTEM "{secret.as_uri()}">]><l>&a;</l>'
    for content in (bomb, outside):
        text = text_of("a.xml", content)
        assert "It declares entities" in text
        assert "lol" not in text
        assert "classified" not in text


@pytest.mark.parametrize("suffix", ["md", "html", "txt", "toml", "csv", "xml", "json"])
def test_texts_made_of_openings_take_linear_time(suffix: str) -> None:
    for unit in ("<!--", "<script>", "<a '", "](", "[", "```", '"', "'''", "&a", "a.b.", "/*"):
        assert is_clean(text_of(f"a.{suffix}", unit * 50_000))


def test_a_single_line_of_fifty_megabytes_is_text() -> None:
    text = text_of("a.txt", b"x" * 50_000_000)
    assert "1 line" in text
    assert is_clean(text)


def test_empty_and_cut_off_files_are_described() -> None:
    assert explored("a.csv", b"").text == "The file is empty: 0 bytes"
    for name, start in (
        ("a.db", b"SQLite format 3\x00"),
        ("a.zip", b"PK\x03\x04"),
        ("a.tar", b"\0" * 257 + b"ustar\0"),
    ):
        found = explored(name, start + b"\x00\x01" * 300)
        assert found.file_type == "binary"
        assert "could not be read as" in found.text
        assert "SHA-256" in found.text


def test_when_the_time_is_up_the_summary_says_how_far_it_came() -> None:
    text = explored("a.log", b"2026-01-01 INFO x\n" * 1_000, deadline_seconds=-1.0).text
    assert "0 lines counted in the first 0 bytes" in text
    assert "0 rows counted in the first 0 bytes" in explored("a.csv", b"a,b\n1,2\n", deadline_seconds=-1.0).text


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        explore(tmp_path / "gone", "a.txt")


MEASURE = """
import re, sys
from pathlib import Path
from mnesis.files.explorers import explore
found = explore(Path(sys.argv[1]), sys.argv[2])
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10)
print(found.text)
"""


def columns(rows: int) -> bytes:
    row = ",".join(str(number % 97) for number in range(1_000_000)) + "\n"
    return (",".join(f"c{number}" for number in range(1_000_000)) + "\n" + row * rows).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("few.csv", lambda: columns(3), "3 rows, 1,000,000 columns"),
        ("many.csv", lambda: columns(12), "12 rows, 1,000,000 columns"),
        ("ragged.csv", lambda: b"a,b\n" + b"1,2\n" * 100 + b"xx," * 3_000_000, "101 rows"),
        ("field.csv", lambda: b'a,b\n"' + b"x" * 50_000_000 + b'",2\n', "1 row"),
        ("line.jsonl", lambda: b"[" + b"[]," * 2_500_000 + b"1]", "JSON Lines"),
        ("deep.json", lambda: b"[" * 6_000_000, "nested 4,194,304 levels deep"),
        ("deep.xml", lambda: b"<a>" * 5_000_000, "nested more than 10,000 deep"),
        (
            "names.xml",
            lambda: b"<a>" + b"".join(b"<a%d/>" % number for number in range(500_000)),
            "more than 50,000 names",
        ),
        ("tag.xml", lambda: b"<r/><a " + b" ".join(b'a%d=""' % number for number in range(500_000)), "XML"),
        ("big.toml", lambda: b"".join(b"[a%d.b.c.d]\n" % number for number in range(300_000)), "Read by patterns"),
        ("flow.yaml", lambda: b"{" + b"a," * 1_000_000, "YAML"),
        ("big.py", lambda: b"x=" * 190_000 + b"1", "Python source"),
        ("large.py", lambda: b"def f(a):\n  return [a, a, a]\n" * 60_000, "Too large to parse (over 400,000 bytes)"),
        ("grow.ts", lambda: b"a<" * 300_000, "TypeScript source"),
        ("big.log", lambda: b"2026-01-01 10:00:00 INFO some words and the number 17\n" * 2_000_000, "2,000,000 lines"),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_memory_stays_bounded(name: str, content: Callable[[], bytes], says: str, tmp_path: Path) -> None:
    path = tmp_path / "content"
    path.write_bytes(content())
    command = [sys.executable, "-c", MEASURE, str(path), name]
    run = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    peak, _, text = run.stdout.partition("\n")
    assert says in text
    assert int(peak) < 200 << 20
