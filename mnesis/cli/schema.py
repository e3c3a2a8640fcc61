"""`mnesis schema`: the JSON Schema of a command's output with `--json` or `--jsonl`."""

from __future__ import annotations

import click

from mnesis.cli.json_output import OUTPUTS, json_schema
from mnesis.cli.output import print_json


@click.command(
    "schema",
    short_help="Print the JSON Schema of what a command prints.",
    epilog="Example: mnesis schema ls --line",
)
@click.argument("command_name", metavar="COMMAND", type=click.Choice(list(OUTPUTS)))
@click.option("--line", "of_line", is_flag=True, help="The schema of one line of --jsonl instead of --json.")
def command(command_name: str, of_line: bool) -> None:
    """Print the JSON Schema (draft 2020-12) of the output of COMMAND with --json.

    Within a minor version, fields are added but never removed. Times are in milliseconds since 1970, costs in US
    dollars.
    """
    output = OUTPUTS[command_name]
    notation = output.line if of_line or output.document is None else output.document
    if notation is None:
        raise click.UsageError(f"{command_name} has no --jsonl; omit --line")
    print_json(json_schema(notation))
