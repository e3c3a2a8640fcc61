"""What `--json` and `--jsonl` print is listed, for every command, and nothing else is printed."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from mnesis.cli.app import COMMANDS, cli
from mnesis.cli.json_output import OUTPUTS, describe, json_schema
from tests.cli.conftest import Run
from tests.cli.test_every_command import FOUND, Fill

KINDS = {"--json": "document", "--jsonl": "line"}
PRINTED = [
    (name, option)
    for name, output in OUTPUTS.items()
    for option in KINDS
    if getattr(output, KINDS[option]) and name != "rekey"  # which needs an encrypted database: tests/encryption
]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_json_option_has_a_schema(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts} & set(KINDS)
    output = OUTPUTS.get(name)
    listed = {option for option, kind in KINDS.items() if output is not None and getattr(output, kind) is not None}
    assert listed == options


@pytest.mark.parametrize(("name", "option"), PRINTED)
def test_what_is_printed_has_exactly_the_listed_fields(
    run: Run, database: Path, tmp_path: Path, name: str, option: str
) -> None:
    arguments = Fill(tmp_path, run)(name, database, "alpha-session", option)
    shown = run(*arguments, input="hello\n")
    assert shown.exit_code == FOUND.get(name, 0) if name != "doctor" else shown.exit_code in (0, 1), shown.stderr
    documents = [json.loads(line) for line in shown.stdout.splitlines()] if option == "--jsonl" else None
    validator = Draft202012Validator(json_schema(getattr(OUTPUTS[name], KINDS[option])))
    for document in [json.loads(shown.stdout)] if documents is None else documents:
        validator.validate(document)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_field_that_is_not_listed_is_refused(name: str) -> None:
    notation = OUTPUTS[name].document or OUTPUTS[name].line
    assert notation is not None
    schema = json_schema(notation)
    Draft202012Validator.check_schema(schema)
    item = schema["items"] if schema.get("type") == "array" else schema
    if "properties" in item:
        assert item["additionalProperties"] is False


def test_schemas_are_printed_and_documented() -> None:
    printed = CliRunner().invoke(cli, ["schema", "ls", "--line"])
    assert json.loads(printed.stdout)["properties"]["parent_id"] == {"type": ["string", "null"]}
    assert CliRunner().invoke(cli, ["schema", "stats", "--line"]).exit_code == 2
    folder = Path(__file__).parents[2] / "docs" / "reference"
    page = "\n".join(path.read_text("utf-8") for path in folder.glob("commands-*.md"))
    for name, output in OUTPUTS.items():
        for notation in (output.document, output.line):
            assert notation is None or describe(notation) in page, name
