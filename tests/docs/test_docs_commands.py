"""Commands that the documentation shows exist, with the options it gives them."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator

import click
import pytest

from mnesis.cli.app import cli
from tests.docs.pages import DOCS, PAGES, ROOT, blocks

BEGINNING = re.compile(r"^(?:[A-Z_]+=\S+\s+)*(?:pip install uv &&\s+)?(?:uv run\s+)?")


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every line of a bash or console block, without variables, `uv run` and comments."""
    for page in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for block in blocks(page):
            if block.language in ("bash", "console"):
                for line in block.text.replace("\\\n", " ").splitlines():
                    words = shlex.split(BEGINNING.sub("", line.removeprefix("$ ")), comments=True)
                    if words:
                        yield f"{page.name}: {line}", words


SHOWN = list(commands())


def options_of(command: click.Command) -> set[str]:
    given = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return given | {"-h", "--help"}


@pytest.mark.parametrize(
    ("where", "words"), [shown for shown in SHOWN if shown[1][0] == "mnesis"], ids=lambda x: str(x)
)
def test_a_command_exists_with_its_options(where: str, words: list[str]) -> None:
    until_pipe = words[: next((n for n, word in enumerate(words) if word in ("|", ">", "<", "&&")), len(words))]
    if until_pipe[1:2] in (["--help"], ["--version"]) or len(until_pipe) == 1:
        return
    command = cli.get_command(click.Context(cli), until_pipe[1])
    assert command is not None, where
    given = [word.split("=")[0] for word in until_pipe[2:] if re.match(r"--?[a-zA-Z]", word)]
    unknown = [word for word in given if word not in options_of(command)]
    assert unknown == [], where


@pytest.mark.parametrize(
    ("where", "words"), [shown for shown in SHOWN if "python" in shown[1][0]], ids=lambda x: str(x)
)
def test_a_script_or_module_exists(where: str, words: list[str]) -> None:
    if words[1] == "-c":
        compile(words[2], where, "exec")
    elif words[1] == "-m":
        assert importlib.util.find_spec(words[2]) is not None, where
    else:
        assert (ROOT / words[1]).is_file(), where


def test_every_other_line_is_a_known_program() -> None:
    known = {"mnesis", "python", "pip", "uv", "pytest", "mkdocs", "pre-commit", ".ci/run", ".ci/quick", "sqlite3"}
    known |= {"cat", "cd", "export", "for", "claude"}
    assert [where for where, words in SHOWN if words[0] not in known] == []


def test_every_figure_on_performance_has_the_command_that_gives_it() -> None:
    text = "\n".join(page.read_text("utf-8") for page in sorted(DOCS.glob("performance*.md")))
    sections = [section for section in re.split(r"^##? ", text, flags=re.M) if "\n|---" in section]
    assert len(sections) >= 6
    assert [section.splitlines()[0] for section in sections if "uv run python -m benchmarks." not in section] == []


def test_commands_are_found() -> None:
    assert sum(words[0] == "mnesis" for _, words in SHOWN) >= 5
