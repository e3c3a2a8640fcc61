"""Encryption of stored files: AES-256-GCM in chunks, so that any part can be read and every change is noticed.

    b"MNESISF1" · 32 random bytes · chunk 0 · chunk 1 · …

Each file has its own key, derived from the key of the storage and the random bytes of the file. The nonce of a chunk
contains its number and a mark for the last chunk, so chunks cannot be swapped, removed or appended (the STREAM
construction, https://eprint.iacr.org/2015/189, section 7). Blocking; call it off the event loop.
"""

from __future__ import annotations

import hmac
import io
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from mnesis.encryption import INSTALL_COMMAND
from mnesis.errors import ConfigurationError

MAGIC = b"MNESISF1"
SALT_BYTES = 32
HEADER_BYTES = len(MAGIC) + SALT_BYTES
CHUNK_BYTES = 1 << 16
TAG_BYTES = 16


class InvalidContentError(Exception):
    """The bytes were not encrypted with this key, or were changed later."""


class FileCipher:
    """The encryption of the files in one storage. `key` is secret and has 32 bytes."""

    def __init__(self, key: bytes) -> None:
        self._content_key = hmac.digest(key, b"content", "sha256")
        self._name_key = hmac.digest(key, b"name", "sha256")

    def __repr__(self) -> str:
        return "FileCipher()"

    def name(self, text: str) -> str:
        """Return the name for stored data: 64 hexadecimal digits that reveal nothing without the key."""
        return hmac.digest(self._name_key, text.encode("utf-8", "surrogatepass"), "sha256").hex()

    def encrypt(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the encrypted form of content. It is complete only if the iteration ends."""
        salt = os.urandom(SALT_BYTES)
        aead = self._aead(salt)
        yield MAGIC + salt
        pending, number = bytearray(), 0
        for chunk in chunks:
            pending += chunk
            # The last chunk is known only at the end. It is empty only if there is no other chunk.
            while len(pending) > CHUNK_BYTES:
                yield aead.encrypt(_nonce(number, is_last=False), bytes(pending[:CHUNK_BYTES]), None)
                del pending[:CHUNK_BYTES]
                number += 1
        yield aead.encrypt(_nonce(number, is_last=True), bytes(pending), None)

    def seal(self, content: bytes) -> bytes:
        """Encrypt a small content."""
        return b"".join(self.encrypt([content]))

    def unseal(self, sealed: bytes) -> bytes:
        """Decrypt the result of `seal`. Raises `InvalidContentError`."""
        return self.open(io.BytesIO(sealed), len(sealed)).read()

    def open(self, file: BinaryIO, encrypted_bytes: int) -> io.BufferedReader:
        """Return the decrypted content of an open file of this length, which can be read at any position.

        Reading raises `InvalidContentError` where the content was changed, and so does this call if the end was cut off.
        """
        return io.BufferedReader(_DecryptedFile(self, file, encrypted_bytes), CHUNK_BYTES)

    def _aead(self, salt: bytes) -> Any:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise ConfigurationError(f"encrypted files need another library; run {INSTALL_COMMAND}") from error
        return AESGCM(hmac.digest(self._content_key, salt, "sha256"))


class _DecryptedFile(io.RawIOBase):
    """The content of an encrypted file. It keeps only one decrypted chunk at a time."""

    def __init__(self, cipher: FileCipher, file: BinaryIO, encrypted_bytes: int) -> None:
        super().__init__()
        self._file = file
        self._position = 0
        self._current: tuple[int, bytes] = (-1, b"")
        self.size_bytes, self._chunk_count = _content_size(encrypted_bytes)
        file.seek(0)
        header = file.read(HEADER_BYTES)
        if not header.startswith(MAGIC):
            raise InvalidContentError("it is not an encrypted file")
        self._aead = cipher._aead(header[len(MAGIC) :])
        self._chunk(self._chunk_count - 1)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"a position must not be negative, but is {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self.size_bytes:
            return 0
        number, offset = divmod(self._position, CHUNK_BYTES)
        piece = self._chunk(number)[offset : offset + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)

    def _chunk(self, number: int) -> bytes:
        if self._current[0] != number:
            from cryptography.exceptions import InvalidTag

            self._file.seek(HEADER_BYTES + number * (CHUNK_BYTES + TAG_BYTES))
            encrypted = self._file.read(CHUNK_BYTES + TAG_BYTES)
            try:
                nonce = _nonce(number, is_last=number == self._chunk_count - 1)
                self._current = number, self._aead.decrypt(nonce, encrypted, None)
            except InvalidTag:
                raise InvalidContentError("it was changed, or encrypted with another key") from None
        return self._current[1]


def content_size(encrypted_bytes: int) -> int:
    """Return the number of content bytes in an encrypted file of this length. Raises `InvalidContentError` if the
    length is impossible.
    """
    return _content_size(encrypted_bytes)[0]


def _content_size(encrypted_bytes: int) -> tuple[int, int]:
    """Return the number of bytes and of chunks."""
    body_bytes = encrypted_bytes - HEADER_BYTES
    chunk_count = -(-body_bytes // (CHUNK_BYTES + TAG_BYTES))
    size_bytes = body_bytes - chunk_count * TAG_BYTES
    # Only a file with a single chunk may have an empty one.
    if body_bytes < TAG_BYTES or size_bytes <= (chunk_count - 1) * CHUNK_BYTES - (chunk_count == 1):
        raise InvalidContentError("its end is missing")
    return size_bytes, chunk_count


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
