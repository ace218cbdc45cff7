"""An address that fsspec knows, as a folder: files are written, listed and deleted in it."""

from __future__ import annotations

import contextlib
import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ...schemas.errors import ArgumentError, DeliveryError
from .bandwidth import Bandwidth
from .interruption import Interruption, LocalFileError, within
from .marker import COMPLETE, UPLOADING, Marker, RemoteFile, marker_from_json

OPEN_WITHIN_S = 12.0
"""How long a first answer may take."""
BLOCK_BYTES = 256 * 1024
PART_BYTES = 8 * 2**20
"""What is sent in one request where there is a limit on the bandwidth."""
USUAL_PART_BYTES = 50 * 2**20
"""What is sent in one request elsewhere, by S3's client."""
MOST_PARTS = 9_000
"""S3 takes 10,000 parts of a file."""

PACKAGES = {
    "s3": "stepbus[s3]",
    "s3a": "stepbus[s3]",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "smb": "smbprotocol",
    "oss": "ossfs",
    "webdav": "webdav4",
    "oci": "ocifs",
}
"""What to install for the addresses that fsspec does not serve by itself."""


def checked_address(address: object) -> str:
    """An address as it is kept: whole, without a slash at its end.

    Raises:
        ArgumentError: it is none.
    """
    text = str(address) if isinstance(address, str | Path) else ""
    if not text.rpartition("://")[2].strip("/"):
        raise ArgumentError(
            f"{address!r} is no address to upload to: give one such as 's3://bucket/run' or "
            "'file:///mnt/backup/run'."
        )
    return text.rstrip("/") if "://" in text else str(Path(text).expanduser().absolute())


def shown(address: str) -> str:
    """An address without the password that may be in it."""
    return re.sub(r"://[^/@]*@", "://", address)


def part_size(num_bytes: int, *, limited: bool) -> int | None:
    """How many bytes of a file to send in one request; None leaves that to the file system.

    Args:
        num_bytes: of the file.
        limited: whether there is a limit on the bandwidth.
    """
    least = -(-num_bytes // MOST_PARTS)
    if limited:
        return max(PART_BYTES, least)
    return least if least > USUAL_PART_BYTES else None


class RemoteFolder:
    """The folder behind an address.

    Args:
        address: one that fsspec knows.
        storage_options: for fsspec.

    Raises:
        DeliveryError: nobody serves such addresses, or the package that does is not installed.
    """

    def __init__(self, address: str, storage_options: Mapping[str, Any] | None = None) -> None:
        self.address = shown(address)
        """As it is shown."""
        self._fs: Any
        try:
            # Some look for credentials first, in places that do not answer.
            self._fs, root = within(
                OPEN_WITHIN_S,
                lambda: _connect(address, dict(storage_options or {})),
                "stepbus-connect",
            )
        except TimeoutError as error:
            raise DeliveryError(
                f"{self.address} could not be reached ({error}): look at the address, the "
                "credentials and the network."
            ) from error
        self._root = root.rstrip("/")

    def show(self, *names: str) -> str:
        """The address of what lies in it."""
        return "/".join((self.address, *names))

    def probe(self) -> None:
        """Writes a small file and deletes it.

        Raises:
            DeliveryError: that did not work, or took too long.
        """
        name = f".stepbus-probe-{uuid.uuid4().hex[:12]}"

        def try_it() -> None:
            self.write(b"stepbus looks whether it can write here\n", name)
            self.delete(name)

        try:
            within(OPEN_WITHIN_S, try_it, "stepbus-probe")
        except Exception as error:
            raise DeliveryError(
                f"{self.address} cannot be written ({type(error).__name__}: {error}): look at the "
                "address, the credentials and what they may do."
            ) from error

    def names(self) -> list[str]:
        """What lies in it, sorted."""
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._root, detail=False)
        except FileNotFoundError:
            return []
        return sorted({str(path).rstrip("/").rpartition("/")[2] for path in found})

    def sizes(self, folder: str) -> dict[str, int]:
        """The files below a folder in it, by relative path, with their sizes in bytes."""
        self._fs.invalidate_cache()
        start = f"{self._path(folder)}/"
        found = self._fs.find(self._path(folder), detail=True)
        return {
            path.removeprefix(start): int(entry["size"])
            for path, entry in found.items()
            if path.startswith(start)
        }

    def marker(self, folder: str, name: str = COMPLETE) -> Marker | None:
        """What an upload consists of; None where there is no such mark.

        Raises:
            DeliveryError: there is one that cannot be read.
        """
        try:
            text = self._fs.cat_file(self._path(folder, name))
        except FileNotFoundError:
            return None
        return marker_from_json(text, self.show(folder, name))

    def marks(self, folder: str) -> tuple[Marker | None, Marker | None]:
        """Those of a whole upload, and of one that is being made or was cut off."""
        return self.marker(folder), self.marker(folder, UPLOADING)

    def write(self, content: bytes, *names: str) -> None:
        """Writes a small file."""
        path = self._path(*names)
        self._in_its_folder(path, lambda: self._fs.pipe_file(path, content))

    def delete(self, *names: str) -> None:
        """Deletes a file that may be gone already."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(*names))

    def delete_folder(self, folder: str) -> None:
        """Deletes what is left of a folder."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm(self._path(folder), recursive=True)

    def send(
        self,
        source: Path,
        expected: RemoteFile,
        bandwidth: Bandwidth,
        interruption: Interruption,
        *names: str,
    ) -> None:
        """Writes a file as it is on disk.

        Raises:
            LocalFileError: it is not what was expected.
            InterruptedUpload: the time is over.
            Exception: what the file system raises; nothing, or a part, is there then.
        """
        path = self._path(*names)
        part_bytes = part_size(expected.size, limited=bandwidth.is_limited)
        options = {} if part_bytes is None else {"block_size": part_bytes}
        target = self._in_its_folder(path, lambda: self._fs.open(path, "wb", **options))
        total = hashlib.sha256()
        try:
            with _opened(source) as file:
                while block := file.read(BLOCK_BYTES):
                    interruption.check()
                    bandwidth.take(len(block))
                    total.update(block)
                    target.write(block)
            if total.hexdigest() != expected.sha256:
                raise LocalFileError(f"{source} was altered after it was written")
            interruption.check()
            target.close()
        except BaseException:
            _throw_away(target)
            raise

    def receive(self, target: Path, expected: RemoteFile, *names: str) -> None:
        """Reads a file into one on disk.

        Raises:
            DeliveryError: it is not what was expected.
        """
        total = hashlib.sha256()
        with self._fs.open(self._path(*names), "rb") as source, target.open("wb") as file:
            while block := source.read(4 * 2**20):
                total.update(block)
                file.write(block)
        if total.hexdigest() != expected.sha256:
            raise DeliveryError(
                f"{self.show(*names)} was altered: its SHA-256 is not that of its upload."
            )

    def _path(self, *names: str) -> str:
        return "/".join((self._root, *names))

    def _in_its_folder(self, path: str, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except FileNotFoundError:
            top = "/" if path.startswith("/") else path.partition("/")[0]
            if not self._fs.exists(top):
                raise  # A bucket is not made by accident.
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
            return function()


def _opened(source: Path) -> Any:
    try:
        return source.open("rb")
    except OSError as error:
        raise LocalFileError(f"{source} cannot be read: {error}") from error


def _throw_away(target: Any) -> None:
    """Has a file that was not written whole not appear where that is possible."""
    from fsspec.spec import AbstractBufferedFile

    with contextlib.suppress(Exception):
        target.discard()
    if isinstance(target, AbstractBufferedFile):
        target.closed = True  # Closing it would send what it has.
    else:
        with contextlib.suppress(Exception):
            target.close()


def _connect(address: str, options: dict[str, Any]) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise DeliveryError(
            f"Uploads to {shown(address)} need the package fsspec, which cannot be imported "
            f"({error}): pip install 'stepbus[s3]' for S3, else pip install fsspec."
        ) from error
    protocol = address.partition("://")[0].partition("::")[0] if "://" in address else "file"
    try:
        found: tuple[Any, str] = fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        package = PACKAGES.get(protocol)
        command = f"pip install '{package}'" if package else "install it"
        raise DeliveryError(
            f"Addresses such as {shown(address)} need a package that cannot be imported "
            f"({error}): {command}."
        ) from error
    except Exception as error:
        raise DeliveryError(
            f"{shown(address)} is no address that fsspec takes ({type(error).__name__}: {error}): "
            "look at the address and at storage_options."
        ) from error
    return found
