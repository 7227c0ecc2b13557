"""Fetching a data set whose publisher allows direct download: resumed if interrupted, verified, unpacked safely.

pooch verifies the archive; it has no resume of its own, so `ResumingDownloader` brings it one. The archive is
unpacked into a temporary folder beside the data set's place and renamed when complete: a data set is either there
whole or not there.

The SHA-256 below is not the publisher's, who gives none. It was taken from public records of other projects that
downloaded the archive independently and agree on it, on its size and on the MD5 that MONAI's ``DecathlonDataset``
verifies (9d24dba78a72977dbd1d2e110310f31b).
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from shapelab.data.cards import VARIABLE, Card, get_card, locate
from shapelab.errors import DataError, UsageError
from shapelab.files import atomic_write

#: Left in an unpacked data set: where it came from and the archive's hash.
RECORD = ".shapelab-source.json"


@dataclass(frozen=True)
class Source:
    """Where an archive is and how it is known. `folder` is the one folder it holds; sizes in bytes."""

    url: str
    known_hash: str
    archive: str
    folder: str
    size: int


SOURCES = {
    "hippocampus": Source(
        "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task04_Hippocampus.tar",
        "sha256:282d808a3e84e5a52f090d9dd4c0b0057b94a6bd51ad41569aef5ff303287771",
        "Task04_Hippocampus.tar",
        "Task04_Hippocampus",
        28_425_216,
    ),
}


def fetch(name: str, root: str | Path | None = None, progress: bool = True) -> Path:
    """Download a data set and unpack it to `root`/<its folder>; returns that folder.

    Parameters
    ----------
    name : a data set that is fetchable, see `shapelab.data.catalogue`
    root : folder of data sets; None: the environment variable SHAPELAB_DATA
    progress : show a bar on standard error

    A data set that is already there is left as it is. An interrupted download goes on where it stopped.

    Raises
    ------
    UsageError : unknown name, one that is not to be had by direct download (with its home page), no root
    DataError : no connection, refused by the server, wrong hash, an archive that would write outside its folder, or
        something else in the way
    """
    card = get_card(name)
    if not card.home:
        raise UsageError(
            f"fetch: found {name!r}, which is not downloaded: {card.title}; expected one of {', '.join(SOURCES)}"
        )
    if name not in SOURCES:
        raise UsageError(
            f"fetch: found {name!r}, which its publisher does not offer for direct download; "
            f"expected one of {', '.join(SOURCES)}. {card.how_to_get}"
        )
    if root is None and not (root := os.environ.get(VARIABLE)):
        raise UsageError(f"fetch: found no folder and no environment variable {VARIABLE}; expected one of them")
    return _fetch(card, SOURCES[name], Path(root).expanduser(), progress)


def _fetch(card: Card, source: Source, root: Path, progress: bool) -> Path:
    target = root / source.folder
    if target.exists():
        try:
            return locate(card.name, target)
        except DataError:
            raise DataError(
                target, "something else", f"{card.title}, or nothing", "Move it away and fetch again."
            ) from None
    try:
        root.mkdir(parents=True, exist_ok=True)
        archive = _download(card, source, root, progress)
        unpack(archive, root, source)
        archive.unlink()
    except OSError as error:
        raise DataError(
            error.filename or root,
            f"that it cannot be written ({error.strerror or error})",
            f"a folder with room for {2 * source.size / 1e6:.0f} MB",
            "Give another folder or make room; the download goes on where it stopped.",
        ) from None
    return locate(card.name, target)


def _download(card: Card, source: Source, root: Path, progress: bool) -> Path:
    """The verified archive in `root`."""
    import pooch
    import requests

    downloader = ResumingDownloader(root / f"{source.archive}.part", progress=progress)
    pooch.get_logger().setLevel("WARNING")
    by_hand = f"Try again later, or download it by hand from {card.home} into {root / source.folder}."
    try:
        return Path(
            pooch.retrieve(source.url, source.known_hash, fname=source.archive, path=root, downloader=downloader)
        )
    except requests.HTTPError as error:
        raise DataError(
            source.url, f"that the server refuses it (HTTP {error.response.status_code})", "the archive", by_hand
        ) from None
    except requests.RequestException as error:
        raise DataError(
            source.url,
            f"no connection, or one that breaks off ({type(error).__name__})",
            "the archive",
            f"Run the same command again, it goes on where it stopped. {by_hand}",
        ) from None
    except ValueError as error:  # pooch's way to say that the hash differs
        if "hash" not in str(error).lower():
            raise
        raise DataError(
            source.url,
            "an archive with another hash, which was thrown away",
            source.known_hash,
            f"The publisher may have changed it, or something on the way has. {by_hand}",
        ) from None


class ResumingDownloader:
    """A pooch downloader over HTTP that keeps what it has in a file and asks for the rest (HTTP Range).

    Parameters
    ----------
    part : file that holds what has arrived; kept when the connection fails, gone when the download is complete
    tries : connections to open before giving up; only those that brought nothing new count
    wait : seconds before the second try, twice as many before each further one
    """

    def __init__(self, part: Path, tries: int = 4, wait: float = 1.0, progress: bool = False, timeout: float = 30):
        self.part, self.tries, self.wait, self.progress, self.timeout = Path(part), tries, wait, progress, timeout
        self.tag = self.part.with_name(self.part.name + ".tag")  # which version of the file the part is of

    def __call__(self, url: str, output_file, pooch=None, check_only: bool = False) -> None:
        """Download `url` to `output_file`; pooch calls this and then verifies the hash."""
        import requests

        left = self.tries
        while True:
            before = self._have()
            try:
                self._connect(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                left = self.tries - 1 if self._have() > before else left - 1
                if left <= 0:
                    raise
                time.sleep(self.wait * 2 ** (self.tries - 1 - left))
        shutil.move(self.part, output_file)
        self.tag.unlink(missing_ok=True)

    def _have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _connect(self, url: str) -> None:
        """One connection: all that is still missing. Raises requests' errors; what arrived stays in the part file."""
        import requests

        have = self._have()
        tag = self.tag.read_text() if have and self.tag.exists() else ""
        headers = {"Accept-Encoding": "identity"}
        if have and tag:  # without a tag nobody can tell whether the part is of today's file
            headers |= {"Range": f"bytes={have}-", "If-Range": tag}
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as answer:
            if answer.status_code == 416:  # nothing is left to send, or the file is shorter now
                complete = answer.headers.get("Content-Range") == f"bytes */{have}"
                if not complete:
                    self.part.unlink()
                    raise requests.ConnectionError("the part that was kept does not fit the file")
                return
            answer.raise_for_status()
            goes_on = answer.status_code == 206 and _first_byte(answer) == have
            if answer.status_code == 206 and not goes_on:
                self.part.unlink()
                raise requests.ConnectionError("the server sent another range than asked for")
            if not goes_on:
                have = 0
                self.part.unlink(missing_ok=True)
                _write_tag(self.tag, answer)
            self._receive(answer, have)

    def _receive(self, answer, have: int) -> None:
        import requests
        from tqdm.auto import tqdm

        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with (
            open(self.part, "ab") as file,
            tqdm(
                total=total, initial=have, unit="B", unit_scale=True, desc=self.part.stem, disable=not self.progress
            ) as bar,
        ):
            for chunk in answer.iter_content(1 << 16):
                file.write(chunk)
                bar.update(len(chunk))
        if total is not None and self._have() < total:
            raise requests.ConnectionError(f"the connection ended after {self._have()} of {total} bytes")


def _first_byte(answer) -> int | None:
    """From `Content-Range: bytes 100-199/200`."""
    try:
        return int(answer.headers["Content-Range"].removeprefix("bytes ").split("-")[0])
    except (KeyError, ValueError):
        return None


def _write_tag(file: Path, answer) -> None:
    """Keep the strong ETag, else the date; a weak ETag does not promise the same bytes."""
    tag = answer.headers.get("ETag", "")
    tag = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    if tag:
        file.write_text(tag)
    else:
        file.unlink(missing_ok=True)


def unpack(archive: Path, root: Path, source: Source) -> Path:
    """Unpack a tar archive that holds one folder to `root`/`source.folder`, all of it or nothing.

    Every member is looked at before the first is written: only files and folders inside `source.folder`; no absolute
    path, no "..", no link of any kind (a medical data set needs none), no device. The files that macOS adds
    (``._name``, ``.DS_Store``) are left out.

    Raises DataError naming the member, or the archive if it is no readable tar.
    """
    temporary = Path(tempfile.mkdtemp(prefix=f".{source.folder}-", dir=root))
    try:
        try:
            with tarfile.open(archive) as tar:
                members = tar.getmembers()
                for member in members:
                    _check_member(archive, member, source, temporary)
                wanted = [m for m in members if not PurePosixPath(m.name).name.startswith(("._", ".DS_Store"))]
                for member in wanted:
                    member.mode = 0o755 if member.isdir() else 0o644
                safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(temporary, members=wanted, **safely)
        except (tarfile.TarError, EOFError) as error:
            raise DataError(
                archive, f"no readable tar archive ({error})", "the publisher's archive", "Delete it and fetch again."
            ) from None
        unpacked = temporary / source.folder
        if not unpacked.is_dir():
            raise DataError(
                archive, f"no folder {source.folder!r} in it", "the publisher's archive", "Delete it and fetch again."
            )
        with atomic_write(unpacked / RECORD) as file:
            file.write_text(json.dumps(asdict(source), indent=1) + "\n")
        os.replace(unpacked, root / source.folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return root / source.folder


def _check_member(archive: Path, member: tarfile.TarInfo, source: Source, destination: Path) -> None:
    def refuse(what: str) -> None:
        raise DataError(
            archive,
            f"the member {member.name!r}: {what}",
            f"files and folders inside {source.folder!r}",
            "Nothing was unpacked. Do not trust this archive.",
        )

    path = PurePosixPath(member.name)
    if path.is_absolute() or PureWindowsPath(member.name).drive or "\\" in member.name:
        refuse("an absolute path")
    if ".." in path.parts:
        refuse("a path that leads out of its folder")
    if member.issym() or member.islnk():
        refuse(f"a link (to {member.linkname!r})")
    if not member.isfile() and not member.isdir():
        refuse("a device or another special file")
    if path.parts and path.parts[0] not in (source.folder, f"._{source.folder}"):
        refuse("outside the data set's folder")
    if hasattr(tarfile, "data_filter"):  # the standard library's own judgement, where Python has it
        try:
            tarfile.data_filter(member, str(destination))
        except tarfile.FilterError as error:
            refuse(str(error))
