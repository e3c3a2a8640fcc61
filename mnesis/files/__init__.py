"""Large content: stored once under its hash, and shown to the model as a reference with a summary."""

from mnesis.files.handler import FileHandleResult, LargeFileHandler
from mnesis.files.storage import FileStorage

__all__ = ["FileHandleResult", "FileStorage", "LargeFileHandler"]
