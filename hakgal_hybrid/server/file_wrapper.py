"""FileWrapper: files that an application hands to the server, which reads them as their clients take them."""

from __future__ import annotations

import os
from io import BufferedReader, FileIO
from typing import Any

#: How much is read at a time (bytes) if the application does not say.
BLOCK = 64 * 1024


class FileWrapper:
    """The ``wsgi.file_wrapper`` of PEP 3333: iterates a file; a real one can be read without its thread.

    :param file: has ``read(size)``.
    :param block_size: how much is read at a time (bytes).
    """

    def __init__(self, file: Any, block_size: int = BLOCK) -> None:
        self._file, self._block_size = file, block_size

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        """Return the next block."""
        data: bytes = self._file.read(self._block_size)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Close the file."""
        if hasattr(self._file, "close"):
            self._file.close()

    def duplicate(self) -> tuple[Any, int, int] | None:
        """Return the file again, opened apart from the host's, where it is read next and where it ends.

        :return: an unbuffered file, and two offsets (bytes); ``None`` if it is no file on disk.
        """
        raw = self._file.raw if type(self._file) is BufferedReader else self._file
        if type(raw) is not FileIO:  # what only wraps a file may not have its bytes
            return None
        try:
            start, end = self._file.tell(), os.fstat(raw.fileno()).st_size
            if end <= start:  # a pipe, or a file of the system's that has no size
                return None
            return open(os.dup(raw.fileno()), "rb", buffering=0), start, end
        except (OSError, ValueError):
            return None
