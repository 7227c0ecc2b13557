"""Fetching a data set whose publisher allows direct download: verified, unpacked safely.

pooch downloads the archive and verifies its hash. It is unpacked into a temporary folder beside the data set's place,
which is renamed when complete: a data set is either there whole or not there.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from dataclasses import asdict
from pathlib import Path, PurePosixPath, PureWindowsPath

from shapelab.data.cards import VARIABLE, Card, catalogue, get_card, locate
from shapelab.errors import DataError, must, need
from shapelab.files import write_json

#: Left in an unpacked data set: where it came from and the archive's hash.
RECORD = ".shapelab-source.json"


def fetch(name: str, root: str | Path | None = None, progress: bool = True) -> Path:
    """Download a data set and unpack it to `root`/<its folder>; returns that folder.

    Args:
        name: a data set that is fetchable, see `shapelab.data.catalogue`
        root: folder of data sets; None: the environment variable SHAPELAB_DATA
        progress: show a bar on standard error

    A data set that is already there is left as it is.

    Raises:
        UsageError: unknown name, one that is not to be had by direct download (with its home page), no root
        DataError: no connection, refused by the server, wrong hash, an archive that would write outside its folder, or
            something else in the way
    """
    card = get_card(name)
    known = f"one of {', '.join(other.name for other in catalogue().values() if other.fetchable)}"
    must(card.fetchable or card.home, "fetch", f"{name!r}, which is not downloaded: {card.title}", known)
    must(
        card.fetchable,
        "fetch",
        f"{name!r}, which its publisher does not offer for direct download",
        f"{known}. {card.how_to_get}",
    )
    must(
        root is not None or os.environ.get(VARIABLE),
        "fetch",
        f"no folder and no environment variable {VARIABLE}",
        "one of them: root, on the command line --root DIR, or the variable",
    )
    root = Path(os.environ[VARIABLE] if root is None else root).expanduser()
    target = root / card.folder
    if target.exists():
        try:
            return locate(name, target)
        except DataError:
            raise DataError(
                target, "something else", f"{card.title}, or nothing", "Move it away and fetch again."
            ) from None
    try:
        root.mkdir(parents=True, exist_ok=True)
        archive = _download(card, root, progress)
        unpack(archive, root, card)
        archive.unlink()
    except OSError as error:
        raise DataError(
            error.filename or root,
            f"that it cannot be written ({error.strerror or error})",
            f"a folder with room for {2 * card.source.size / 1e6:.0f} MB",
            "Give another folder or make room, and fetch again.",
        ) from None
    return locate(name, target)


def _download(card: Card, root: Path, progress: bool) -> Path:
    """The verified archive in `root`."""
    import pooch
    import requests

    source = card.source
    pooch.get_logger().setLevel("WARNING")
    todo = f"Try again later, or download it by hand from {card.home} into {root / card.folder}."
    try:
        return Path(
            pooch.retrieve(source.url, source.known_hash, fname=source.archive, path=root, progressbar=progress)
        )
    except requests.RequestException as error:
        raise DataError(
            source.url,
            f"that the server refuses it (HTTP {error.response.status_code})"
            if isinstance(error, requests.HTTPError)
            else f"no connection, or one that breaks off ({type(error).__name__})",
            "the archive",
            todo,
        ) from None
    except ValueError as error:  # pooch's way to say that the hash differs
        if "hash" not in str(error).lower():
            raise
        raise DataError(
            source.url,
            "an archive with another hash, which was thrown away",
            source.known_hash,
            f"The publisher may have changed it, or something on the way has. {todo}",
        ) from None


def unpack(archive: Path, root: Path, card: Card) -> Path:
    """Unpack a tar archive that holds one folder to `root`/`card.folder`, all of it or nothing.

    Every member is looked at before the first is written: only files and folders inside `card.folder`; no absolute
    path, no "..", no link of any kind (a medical data set needs none), no device. The files that macOS adds
    (``._name``, ``.DS_Store``) are left out.

    Raises DataError naming the member, or the archive if it is no readable tar.
    """
    again = "Delete it and fetch again."
    with tempfile.TemporaryDirectory(prefix=f".{card.folder}-", dir=root) as temporary:
        try:
            with tarfile.open(archive) as tar:
                members = tar.getmembers()
                for member in members:
                    if wrong := _wrong_with(member, card.folder):
                        raise DataError(
                            archive,
                            f"the member {member.name!r}: {wrong}",
                            f"files and folders inside {card.folder!r}",
                            "Nothing was unpacked. Do not trust this archive.",
                        )
                    member.mode = 0o755 if member.isdir() else 0o644
                wanted = [m for m in members if not PurePosixPath(m.name).name.startswith(("._", ".DS_Store"))]
                # the standard library's own judgement too, where Python has it
                safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
                tar.extractall(temporary, members=wanted, **safely)
        except (tarfile.TarError, EOFError) as error:
            raise DataError(archive, f"no readable tar archive ({error})", "the publisher's archive", again) from None
        unpacked = Path(temporary) / card.folder
        need(unpacked.is_dir(), archive, f"no folder {card.folder!r} in it", "the publisher's archive", again)
        write_json(asdict(card.source), unpacked / RECORD)
        shutil.move(unpacked, root / card.folder)
    return root / card.folder


def _wrong_with(member: tarfile.TarInfo, folder: str) -> str | None:
    """Why a member of an archive must not be unpacked; None if it may be."""
    path = PurePosixPath(member.name)
    reasons = {
        "an absolute path": path.is_absolute() or PureWindowsPath(member.name).drive or "\\" in member.name,
        "a path that leads out of its folder": ".." in path.parts,
        f"a link (to {member.linkname!r})": member.issym() or member.islnk(),
        "a device or another special file": not (member.isfile() or member.isdir()),
        "outside the data set's folder": path.parts and path.parts[0] not in (folder, f"._{folder}"),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)
