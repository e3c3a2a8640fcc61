"""Where commands find the key of an encrypted database. A key is never an argument, which other users of the machine can see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pydantic import SecretBytes, SecretStr

KEY_VARIABLE = "MNESIS_ENCRYPTION_KEY"
KEY_FILE_VARIABLE = "MNESIS_ENCRYPTION_KEY_FILE"


def encryption_key_setting() -> SecretStr | SecretBytes | None:
    """Return the key that the environment names, or None. Raises `click.UsageError` if it cannot be used."""
    from pydantic import SecretStr

    from mnesis.encryption import EncryptionKey
    from mnesis.errors import ConfigurationError

    value, path = os.environ.get(KEY_VARIABLE), os.environ.get(KEY_FILE_VARIABLE)
    if value and path:
        raise click.UsageError(f"{KEY_VARIABLE} and {KEY_FILE_VARIABLE} are both set; unset one of them")
    if not value:
        return read_key_file(Path(path)) if path else None
    try:
        EncryptionKey(value)
    except ConfigurationError as error:
        raise click.UsageError(f"{KEY_VARIABLE} cannot be used: {error}") from None
    return SecretStr(value)


def read_key_file(path: Path) -> SecretStr | SecretBytes:
    """Return the key in a file: text, without the whitespace around it, or 32 bytes.

    Raises `click.UsageError` if the file cannot be read or has no key.
    """
    from pydantic import SecretBytes, SecretStr

    from mnesis.encryption import EncryptionKey
    from mnesis.errors import ConfigurationError

    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        raise click.UsageError(f"the key file {path} cannot be read: {error.strerror}; name another file") from error
    try:
        text = content.decode().strip()
    except UnicodeDecodeError:
        text = ""
    try:
        EncryptionKey(text or content)
    except ConfigurationError as error:
        raise click.UsageError(f"the key file {path} has no key: {error}") from None
    return SecretStr(text) if text else SecretBytes(content)
