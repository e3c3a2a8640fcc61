"""Keys of encrypted databases and stored files. A key never appears in a text: neither in a repr, an error nor a log.

The database key opens the database. The keys of stored files are derived from it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from functools import lru_cache

from mnesis.errors import ConfigurationError, EncryptionKeyError

INSTALL_COMMAND = 'pip install "mnesis-context[encryption]"'
KEY_BYTES = 32
MIN_PASSPHRASE_CHARS = 8
SALT_BYTES = 16
# The interactive parameters of RFC 7914 are N = 2**14; OWASP's password storage cheat sheet asks for N = 2**17, r = 8.
_SCRYPT_COST = 2**17
_SCRYPT_BLOCK_SIZE = 8
_RAW_KEY = re.compile(r"[0-9a-fA-F]{64}")

KeySource = Callable[[], "str | bytes"]


class EncryptionKey:
    """The key of a database: 32 random bytes, which are used unchanged, or a passphrase, which is stretched.

    A text of 64 hexadecimal digits means these 32 bytes.
    """

    __slots__ = ("_passphrase", "_raw")

    def __init__(self, value: str | bytes) -> None:
        """Raises `ConfigurationError` if the value cannot be a key. The message does not contain it."""
        self._raw: bytes | None = None
        self._passphrase = ""
        if isinstance(value, bytes):
            if len(value) != KEY_BYTES:
                raise ConfigurationError(
                    f"an encryption key in bytes has {KEY_BYTES} bytes, not {len(value)}; pass secrets.token_bytes(32), or"
                    " a passphrase as text"
                )
            self._raw = value
        elif not isinstance(value, str):
            raise ConfigurationError(f"an encryption key is text or bytes, not {type(value).__name__}")
        elif _RAW_KEY.fullmatch(value):
            self._raw = bytes.fromhex(value)
        else:
            self._passphrase = _check_passphrase(value)

    @property
    def is_passphrase(self) -> bool:
        """Whether the key is a passphrase, which needs a salt."""
        return self._raw is None

    def to_sql(self) -> str:
        """Return the key as the value of `PRAGMA key` (https://www.zetetic.net/sqlcipher/sqlcipher-api/#key)."""
        if self._raw is not None:
            return f"\"x'{self._raw.hex()}'\""
        quoted = self._passphrase.replace("'", "''")
        return f"'{quoted}'"

    def derive(self, salt: bytes) -> bytes:
        """Return 32 bytes that depend on the key and a salt. A passphrase takes half a second and 128 MB the first time."""
        if self._raw is not None:
            return hmac.digest(self._raw, b"mnesis stored files\0" + salt, "sha256")
        return _stretch(self._passphrase, salt)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncryptionKey) and hmac.compare_digest(self.to_sql().encode(), other.to_sql().encode())

    def __hash__(self) -> int:
        return hash(self.to_sql())

    def __repr__(self) -> str:
        return "EncryptionKey('**********')"


def read_key(source: str | bytes | KeySource | None) -> EncryptionKey | None:
    """Return the key of a setting, which may be a callable that fetches it. Returns None if there is none.

    Raises `EncryptionKeyError` if the callable fails or returns something that cannot be a key.
    """
    if not callable(source):
        return None if source is None else EncryptionKey(source)
    try:
        return EncryptionKey(source())
    except ConfigurationError as error:
        raise EncryptionKeyError(f"the callable for encryption_key returned no key: {error}") from None
    except Exception as error:  # the caller's code
        raise EncryptionKeyError(
            f"the callable for encryption_key raised {type(error).__name__}; the database was not opened"
        ) from error


@lru_cache(maxsize=8)
def _stretch(passphrase: str, salt: bytes) -> bytes:
    memory_bytes = 128 * _SCRYPT_COST * _SCRYPT_BLOCK_SIZE
    return hashlib.scrypt(
        passphrase.encode(),
        salt=salt,
        n=_SCRYPT_COST,
        r=_SCRYPT_BLOCK_SIZE,
        p=1,
        maxmem=memory_bytes + (1 << 20),
        dklen=KEY_BYTES,
    )


def _check_passphrase(value: str) -> str:
    if len(value) < MIN_PASSPHRASE_CHARS:
        raise ConfigurationError(
            f"a passphrase has at least {MIN_PASSPHRASE_CHARS} characters; pass a longer one, or secrets.token_hex(32)"
        )
    if "\0" in value or re.search("[\ud800-\udfff]", value):
        raise ConfigurationError("a passphrase is text without NUL characters and lone surrogates; pass another one")
    return value
