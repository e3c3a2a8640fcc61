"""The help of every command as Markdown, for the documentation: `python -m mnesis.cli.reference > docs/cli.md`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from mnesis.cli.app import COMMANDS, cli

INTRODUCTION = """\
# Command line

`mnesis` looks into databases, moves and maintains them, and shows the library at work. It comes with the package; nothing
else is to be installed. Try it without a key:

```console
$ mnesis demo --keep demo.db
$ mnesis ls --db demo.db
$ mnesis chat --mock
```

- The database is `--db`, else `MNESIS_DB`, else `~/.mnesis/sessions.db`. Commands that only look make no database, write
  nothing to it and hold no transaction open; `search` alone brings its index up to date. `--timeout` says how long to wait
  for a process that holds the database.
- Ids of sessions, summaries and messages may be shortened as long as they stay unique; an ambiguous one is refused, and
  the candidates are named.
- Data goes to standard output, messages to standard error. On a terminal there are colours, unless `NO_COLOR` is set; in a
  pipe there are none, and a reader that leaves early is no error. `--json` prints one JSON document in ASCII, `--jsonl` one
  row per line.
- Whatever a session holds is shown harmlessly: control characters and marks that reorder text appear as `\N{REPLACEMENT CHARACTER}`.
- Completion of commands and options: `eval "$(_MNESIS_COMPLETE=bash_source mnesis)"`, with `zsh_source` or `fish_source` for
  these shells.
- Exit codes: 0 done, 1 a problem was found, 2 wrong usage or unknown id, 3 the database cannot be used.
"""


def reference() -> str:
    """The page, the same on every machine: nothing in it depends on a terminal, an environment or a time."""
    return "\n".join([INTRODUCTION, *(_section(name) for name in COMMANDS)])


def _section(name: str) -> str:
    command = cli.get_command(click.Context(cli), name)
    if command is None:
        raise click.UsageError(f"no command {name}")
    example = (command.epilog or "").removeprefix("Example: ")
    return "\n".join(
        [
            f"## mnesis {name}\n",
            f"```text\n{_usage(name, command)}\n```\n",
            f"{inspect.cleandoc(command.help or '')}\n",
            "| option | what it does |\n|---|---|",
            *_options(command),
            f"\nExample: `{example}`\n",
        ]
    )


def _usage(name: str, command: click.Command) -> str:
    arguments = (str(each.metavar or each.name).upper() for each in command.params if isinstance(each, click.Argument))
    return " ".join(["mnesis", name, *arguments, "[OPTIONS]"])


def _options(command: click.Command) -> Iterator[str]:
    for option in command.params:
        if isinstance(option, click.Option):
            names = ", ".join(f"`{name}`" for name in option.opts)
            yield f"| {names}{_value(option)} | {_escaped(option.help or '')}{_default(option)} |"


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice):
        return " " + _escaped(" | ".join(f"`{choice}`" for choice in option.type.choices))
    return f" {_escaped(option.metavar)}" if option.metavar else " N"


def _default(option: click.Option) -> str:
    return f" Default: {option.default}." if option.show_default and not option.is_flag else ""


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(reference(), end="")
