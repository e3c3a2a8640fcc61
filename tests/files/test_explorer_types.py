"""Each type is known by name and content, and its summary says what is in the file."""

from __future__ import annotations

import json

import pytest

from mnesis.files.explorers.source import CHUNK_BYTES
from tests.files.explored import explored, text_of


@pytest.mark.parametrize(
    ("name", "content", "file_type"),
    [
        ("a.py", "x = 1\n", "python"),
        ("A.PY", "x = 1\n", "python"),
        ("run", "#!/usr/bin/env python3\nprint(1)\n", "python"),
        ("a.csv", "a,b\n1,2\n", "csv"),
        ("a.csv", b"\x00\x01\x02" * 100, "binary"),
        ("a.csv", b"SQLite format 3\x00" + b"\x00" * 100, "binary"),
        ("notes", "a;b;c\n1;2;3\n4;5;6\n7;8;9\n", "csv"),
        ("data.txt", "a\tb\n1\t2\n3\t4\n", "tsv"),
        ("", '{"a": [1, 2]}', "json"),
        ("out.txt", '{"a": 1}\n{"a": 2}\n{"a": 3}\n', "jsonl"),
        ("page", "<!DOCTYPE html><html><body>x</body></html>", "html"),
        ("feed", '<?xml version="1.0"?><r><a/></r>', "xml"),
        ("README.md", "# Title\n", "markdown"),
        ("x.tar.gz", b"\x1f\x8b\x08\x00" + b"\x00\x01\x02\x03" * 20, "binary"),
        ("prose.txt", "It was a dark night.\nNobody, it seems, was there, and so on.\nThe end, then.\n", "text"),
        ("server.log", "[2026-01-01] start\n[2026-01-01] stop\n[2026-01-02] start\n", "log"),
        ("settings", "---\nname: x\nlist:\n- a\n- b\n", "yaml"),
        ("a.h", "int f(void);\n", "c"),
        ("nothing.json", b"", "empty"),
        ("wrong.json", "no json at all\n", "text"),
        ("wrong.db", b"SQLite format 3\x00 cut", "binary"),
    ],
)
def test_name_and_content_decide_the_type(name: str, content: bytes | str, file_type: str) -> None:
    assert explored(name, content).file_type == file_type


@pytest.mark.parametrize(
    ("name", "content", "is_prose"),
    [("a.txt", "Once.\n", True), ("a.md", "# T\n", True), ("a.py", "x=1", False), ("a.csv", "a,b\n1,2", False)],
)
def test_prose_is_what_a_model_could_summarise_better(name: str, content: str, is_prose: bool) -> None:
    assert explored(name, content).is_prose is is_prose


def test_content_an_explorer_cannot_read_is_described_with_the_reason() -> None:
    text = text_of("wrong.json", "no json at all\n")
    assert "could not be read as JSON" in text
    assert "no json at all" in text


PYTHON = '''"""What it is for.

More."""
import os
from .core import thing

LIMIT = 3
name = "x"

@dataclass(frozen=True)
class Box(Base, metaclass=Meta):
    """Holds things.

    And more."""
    size: int = 1

    async def put(self, item: str, *, at: int = 0) -> bool:
        """Puts one in."""
        def inner(): ...

def top(a, /, *rest, **named): ...

if True:
    def conditional(): ...
'''


def test_python_shows_imports_classes_signatures_and_docstring_heads() -> None:
    text = text_of("a.py", PYTHON)
    for line in (
        "Python source, 386 bytes, 24 lines",
        "Docstring: What it is for.",
        "Imports: os, .core",
        "Constants: LIMIT",
        "  @dataclass(frozen=True) class Box(Base, metaclass=Meta) — Holds things.",
        "    async def put(self, item: str, *, at: int=0) -> bool — Puts one in.",
        "  def top(a, /, *rest, **named)",
        "  def conditional()",
    ):
        assert line in text.split("\n"), line
    assert "inner" not in text
    assert "name" not in text.split("Declarations")[0]


def test_python_that_does_not_parse_is_read_by_patterns_and_says_so() -> None:
    text = text_of("a.py", "import os\nclass A:\n    def run(self, x):\n        pass\ndef broken(:\n")
    assert "Does not parse (SyntaxError" in text
    assert "read by patterns" in text
    assert "Imports: os" in text
    assert "  class A\n    def run(self, x)\n  def broken" in text


def test_many_declarations_are_shown_without_members_then_by_name() -> None:
    members = "".join(f"class C{n}:\n" + "".join(f"  def method{m}(self): ...\n" for m in range(40)) for n in range(20))
    text = text_of("a.py", members)
    assert "(800 members left out)" in text
    assert "class C19" in text
    many = text_of("a.py", "".join(f"def f{n}(argument, other): ...\n" for n in range(300)))
    assert "300 declarations by name" in many
    assert "f299" in many


def test_json_shows_the_merged_shape_of_its_values() -> None:
    document = {
        "users": [{"id": n, "name": f"n{n}", **({"email": None} if n % 2 else {})} for n in range(10)],
        "ok": True,
    }
    text = text_of("a.json", json.dumps(document))
    assert "nested 3 levels deep" in text
    for line in (
        "Value: object, 2 keys",
        "  users: array, 10 items",
        "    each item: object, 2 to 3 keys",
        "      id: integer, 0 to 9",
        "      name: string, 2 characters, such as n0, n1, n2",
        "      email: null, in 5 of 10",
        "  ok: boolean",
    ):
        assert line in text.split("\n"), line


def test_json_that_is_cut_off_says_so() -> None:
    assert "ends inside a value" in text_of("a.json", '{"a": [1, {"b": "xy')


def test_json_lines_are_counted_and_those_that_are_none_told() -> None:
    text = text_of("a.jsonl", '{"id": 1, "tag": "x"}\n{"id": 7}\n\noops\n{"id": "z"}')
    assert "3 records" in text
    assert "1 line of those read is no JSON" in text
    assert "  id: integer or string, 1 to 7" in text
    assert "  tag: string, 1 character, such as x, in 1 of 3" in text


def test_yaml_shows_keys_lists_and_documents() -> None:
    text = text_of("a.yaml", "name: test\non: [push, pull]\njobs:\n  build:\n    steps: [a, b]\n---\nsecond: 1\n")
    assert "2 documents" in text
    for line in (
        "name: test",
        "on: list of 2 items",
        "jobs: mapping of 1 key",
        "  build: mapping of 1 key",
        "second: 1",
    ):
        assert line in text.split("\n"), line


def test_toml_shows_tables_and_values() -> None:
    text = text_of("a.toml", 'title = "x"\n[tool.ruff]\nline = 120\nselect = ["A", "B"]\n[[servers]]\nip = "1"\n')
    for line in ('title: "x"', "  ruff: table of 2 keys", "    line: 120", "servers: array of 1 item (table)"):
        assert line in text.split("\n"), line


def test_broken_toml_is_read_by_its_headings() -> None:
    text = text_of("a.toml", "[one]\na = \n[two.three]\n")
    assert "does not parse" in text
    assert "  [two.three]" in text


def test_xml_shows_the_tree_of_tags_with_counts_and_attributes() -> None:
    text = text_of("a.xml", '<r><i id="1"><t/></i><i id="2" n="x"><t/><u/></i><z/></r>')
    assert text.split("\n") == [
        "XML, 57 bytes, 7 elements, nested 3 levels deep",
        "<r> × 1",
        "  <i> × 2 (id, n)",
        "    <t> × 2",
        "    <u> × 1",
        "  <z> × 1",
    ]


def test_html_shows_title_description_headings_and_text() -> None:
    text = text_of(
        "a.html",
        "<!DOCTYPE html><title>Hi &amp; ho</title><meta name=description content='d d'><script>var h='<h1>no</h1>'</script>"
        "<!-- <h1>hidden</h1> --><h1>One</h1><p>words <a href=x>link</a><h2>Two <b>bold</b></h2>",
    )
    for line in ("Title: Hi & ho", "Description: d d", "Made of: a 1, p 1, script 1", "  h1: One", "  h2: Two bold"):
        assert line in text.split("\n"), line
    assert "no" not in text.split()
    assert "hidden" not in text


def test_markdown_shows_headings_links_and_code_blocks() -> None:
    text = text_of(
        "a.md",
        "# T\n\nintro [l](http://x)\n\n## A ##\n```python\n# no heading\n```\n\nSet\n===\n\n|a|b|\n|---|---|\n|1|2|\n",
    )
    assert "3 headings, 1 link, 1 table, 1 code block (python 1)" in text
    for line in ("  # T", "  ## A", "  # Set", "  intro [l](http://x)"):
        assert line in text.split("\n"), line
    assert "no heading" not in text


def test_logs_show_levels_span_and_recurring_shapes() -> None:
    lines = [
        f"2026-01-{n % 28 + 1:02}T10:00:{n % 60:02}Z {'ERROR' if n % 10 == 0 else 'INFO'} job {n} from 10.0.0.{n % 9}"
        for n in range(500)
    ]
    found = explored("a.log", "\n".join(lines) + "\n")
    assert found.file_type == "log"
    assert "500 lines" in found.text
    assert "Level words: ERROR 50, INFO 450" in found.text
    assert "Time span: 2026-01-01T10:00:00Z to 2026-01-24T10:00:19Z" in found.text
    assert "450× <time> INFO job <n> from <ip>" in found.text


def test_plain_text_shows_its_first_and_last_lines() -> None:
    text = text_of("a.txt", "".join(f"Line number {n} says nothing much.\n" for n in range(1_000)))
    assert "1,000 lines" in text
    assert "  Line number 0 says nothing much." in text
    assert "  Line number 999 says nothing much." in text


@pytest.mark.parametrize(
    ("codec", "note"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", "UTF-8 with a byte order mark"),
        ("utf-16", "UTF-16-LE with a byte order mark"),
        ("latin-1", "not valid UTF-8, read as Latin-1"),
    ],
)
def test_encodings_are_told_and_read(codec: str, note: str) -> None:
    text = text_of("a.txt", "Größe und Käse\nzweite Zeile\n".encode(codec))
    assert note in text
    assert "  Größe und Käse" in text
    assert "2 lines" in text
    table = text_of("a.csv", "größe;art\n1;süß\n2;sauer\n".encode(codec))
    assert "2 rows, 2 columns" in table
    assert "  größe: integer, 1 to 2" in table


def test_the_name_of_the_file_is_not_repeated() -> None:
    assert text_of("secret-name.txt", "words\n") == text_of("other.txt", "words\n")


def test_what_does_not_fit_is_left_out_and_said_to_be() -> None:
    found = explored("a.json", json.dumps({f"key{n}": n for n in range(100)}), max_chars=500)
    assert found.text.endswith("\n(more was found than fits here)")
    assert len(found.text) <= 500


def test_level_words_are_counted_across_the_pieces_a_file_is_read_in() -> None:
    line = b"2026-01-01 10:00:00 INFO x\n"
    lines = line * (CHUNK_BYTES // len(line))
    start = lines + b"-" * (CHUNK_BYTES - len(lines) - 2)
    assert "Level words: ERROR 1," in text_of("a.log", start + b"ERROR" + b"\n" + line)


def test_python_outlines_show_conditional_declarations() -> None:
    text = text_of(
        "a.py",
        "from . import near\nif TYPE_CHECKING:\n    import typed\ntry:\n    import fast\nexcept ImportError:\n"
        "    import slow\n    def fallback(): ...\nelse:\n    def first(): ...\nfinally:\n    def last(): ...\n"
        "with quiet():\n    def held(): ...\n",
    )
    assert "Imports: .near, typed, fast, slow" in text
    for name in ("fallback", "first", "last", "held"):
        assert f"  def {name}()" in text.split("\n")


def test_a_large_json_document_says_how_many_members_it_has_in_all() -> None:
    records = [{"id": n, "said": '\\"[{,' * (n % 4), "tags": [n, [{}]]} for n in range(120_000)]
    text = text_of("a.json", json.dumps(records))
    assert "what follows describes the first 4.0 MB" in text
    assert "The whole: array of 120,000 items" in text
    named = json.dumps({f"key {n}": "\\" * (n % 5) for n in range(300_000)}, indent=1)
    assert "The whole: object of 300,000 keys" in text_of("a.json", named)
    assert "The whole" not in text_of("a.json", json.dumps(records)[:-1])


def test_what_the_limit_cuts_in_two_counts_for_no_range() -> None:
    text = text_of("a.json", json.dumps(["x" * 70] * 70_000))
    assert "each item: string, 70 characters, such as" in text


def test_first_lines_do_not_count_twice() -> None:
    text = text_of("a.txt", "a line of it\n" * 2_000)
    assert "2,000 lines" in text.split("\n")[0]
    assert "First lines:\n" in text


def test_a_hash_that_is_known_already_is_not_made_again() -> None:
    assert f"SHA-256: {'ab' * 32}" in explored("a.bin", b"\0" * 100, sha256="ab" * 32).text
