"""A storage without paths, as an object store is: what needs a local path fails on it."""

from __future__ import annotations

from datetime import datetime

from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, Storage
from django.utils.deconstruct import deconstructible


@deconstructible
class DisklessStorage(Storage):
    """Keeps its files in a folder, and tells nobody where."""

    def __init__(self, folder: str) -> None:
        self._files = FileSystemStorage(folder)

    def _open(self, name: str, mode: str = "rb") -> File:
        return self._files.open(name, mode)

    def _save(self, name: str, content: File) -> str:
        return self._files.save(name, ContentFile(content.read()))

    def delete(self, name: str) -> None:
        self._files.delete(name)

    def exists(self, name: str) -> bool:
        return self._files.exists(name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        return self._files.listdir(path)

    def size(self, name: str) -> int:
        return self._files.size(name)

    def get_modified_time(self, name: str) -> datetime:
        return self._files.get_modified_time(name)
