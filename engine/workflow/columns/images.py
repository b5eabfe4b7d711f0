"""`ImageSource`: images for a prompt, as addresses that a request can carry."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path

from engine.errors import PermanentTaskError
from engine.workflow.folder_files import OutsideFolder, file_inside

MAX_IMAGE_BYTES = 20 * 1024 * 1024
_ADDRESSES = ("http://", "https://", "data:image/")
_KINDS = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
)


class ImageSource:
    """Reads images of one folder, and no file outside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = lru_cache(maxsize=64)(self._data_url)

    def url(self, column: str, address: str) -> str:
        """The address as it is, or the file as a `data:` URL. Raises `PermanentTaskError` for what
        is no image; the message does not repeat the address, which may hold row values."""
        if address.lower().startswith(_ADDRESSES):
            return address
        try:
            return self._read(address)
        except OutsideFolder:
            problem = "leads out of the workflow's folder"
        except OSError as error:
            problem = f"can't be read ({error.strerror or type(error).__name__})"
        except ValueError as error:
            problem = str(error)
        raise PermanentTaskError("BadImage", f'an image of column "{column}" {problem}')

    def _data_url(self, address: str) -> str:
        path = file_inside(self._folder, address)
        with path.open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
        if len(data) > MAX_IMAGE_BYTES:
            raise ValueError(f"is larger than {MAX_IMAGE_BYTES >> 20} MB")
        kind = next((name for start, name in _KINDS if data.startswith(start)), None)
        if kind is None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            kind = "webp"
        if kind is None:
            raise ValueError("is no PNG, JPEG, GIF or WebP")
        return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
