"""Fetching from a server on this machine: verified, unpacked safely. No test needs a network."""

import hashlib
import io
import json
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from shapelab.data import cards, download, fetch
from shapelab.data.cards import Source, get_card
from shapelab.data.download import RECORD, unpack
from shapelab.errors import DataError, UsageError

FOLDER = "Task04_Hippocampus"


class Server:
    """What the local server does, and how often it was asked.

    drop : after how many bytes it breaks off its answer; None: not at all
    """

    def __init__(self, content: bytes):
        self.content, self.drop, self.asked, self.status = content, None, 0, 200


@contextmanager
def serving(server: Server):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked += 1
            if server.status != 200:
                return self.send_error(server.status)
            self.send_response(200)
            self.send_header("Content-Length", str(len(server.content)))
            self.end_headers()
            self.wfile.write(server.content[: server.drop])
            if server.drop is not None:
                self.wfile.flush()
                self.connection.close()

        def log_message(self, *arguments):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.handle_error = lambda *arguments: None  # a connection closed on purpose is no news
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}/Task04_Hippocampus.tar"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


@pytest.fixture
def archive(tmp_path, make_decathlon):
    """A tar as the publisher packs it, macOS files included; half a megabyte, so that it arrives in several pieces."""
    make_decathlon(tmp_path / "packed" / FOLDER, n=2)
    (tmp_path / "packed" / FOLDER / "imagesTs").mkdir()
    (tmp_path / "packed" / FOLDER / "imagesTs" / "big").write_bytes(np.random.default_rng(0).bytes(500_000))
    (tmp_path / "packed" / FOLDER / "imagesTr" / "._hippocampus_001.nii.gz").write_bytes(b"macOS")
    (tmp_path / "packed" / f"._{FOLDER}").write_bytes(b"macOS")
    file = tmp_path / "packed.tar"
    with tarfile.open(file, "w") as tar:
        tar.add(tmp_path / "packed" / f"._{FOLDER}", f"./._{FOLDER}")
        tar.add(tmp_path / "packed" / FOLDER, f"./{FOLDER}")
    return file


def change_source(monkeypatch, **changes):
    """Another address or hash for the rest of the test."""
    card = get_card("hippocampus")
    changed = replace(card, source=replace(card.source, **changes))
    monkeypatch.setitem(cards._REGISTERED, "hippocampus", changed)


@pytest.fixture
def server(archive, monkeypatch):
    """A running server with the archive, which `fetch("hippocampus")` now asks instead of the publisher's."""
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(archive.read_bytes())
    with serving(server) as url:
        change_source(monkeypatch, url=url, known_hash="sha256:" + hashlib.sha256(server.content).hexdigest())
        yield server


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# --------------------------------------------------------------------------------------------- the real source
def test_the_real_source_is_pinned():
    source = get_card("hippocampus").source
    assert isinstance(source, Source) and source.archive == "Task04_Hippocampus.tar"
    assert source.url.startswith("https://msd-for-monai.") and source.known_hash.startswith("sha256:")
    assert len(source.known_hash) == 7 + 64 and source.size == 28_425_216


# --------------------------------------------------------------------------------------------------- fetching
def test_fetch(tmp_path, server):
    root = tmp_path / "new" / "data"
    folder = fetch("hippocampus", root, progress=False)
    assert folder == root / FOLDER and names(root) == [FOLDER]  # nothing else is left behind
    assert names(folder) == [RECORD, "dataset.json", "imagesTr", "imagesTs", "labelsTr"]
    assert names(folder / "imagesTr") == ["hippocampus_001.nii.gz", "hippocampus_002.nii.gz"]
    record = json.loads((folder / RECORD).read_text())
    assert record["known_hash"] == get_card("hippocampus").source.known_hash
    from shapelab.data import open_cohort

    assert len(open_cohort("hippocampus", root)) == 2
    assert folder.stat().st_mode & 0o777 == 0o755 and (folder / "dataset.json").stat().st_mode & 0o777 == 0o644


def test_what_is_there_is_not_fetched_again(tmp_path, server):
    fetch("hippocampus", tmp_path / "data", progress=False)
    assert fetch("hippocampus", tmp_path / "data", progress=False) == tmp_path / "data" / FOLDER
    assert server.asked == 1


def test_shapelab_data_is_the_default_root(tmp_path, server, monkeypatch):
    monkeypatch.setenv("SHAPELAB_DATA", str(tmp_path / "data"))
    assert fetch("hippocampus", progress=False) == tmp_path / "data" / FOLDER
    monkeypatch.delenv("SHAPELAB_DATA")
    with pytest.raises(UsageError, match="no environment variable SHAPELAB_DATA"):
        fetch("hippocampus")


def test_progress_goes_to_stderr(tmp_path, server, capsys):
    fetch("hippocampus", tmp_path / "data")
    assert "100%" in capsys.readouterr().err


def test_what_cannot_be_fetched(tmp_path):
    with pytest.raises(UsageError, match="does not offer for direct download.*by hand from https://www.creatis"):
        fetch("acdc", tmp_path)
    with pytest.raises(UsageError, match=r"'phantom', which is not downloaded: synthetic hearts"):
        fetch("phantom", tmp_path)
    with pytest.raises(UsageError, match="'folder', which is not downloaded: your own"):
        fetch("folder", tmp_path)
    with pytest.raises(UsageError, match="does not offer .* http://medicaldecathlon.com"):
        fetch("decathlon", tmp_path)
    with pytest.raises(UsageError, match="found 'x'; expected one of acdc"):
        fetch("x", tmp_path)


# --------------------------------------------------------------------------------------------- what goes wrong
def test_wrong_hash(tmp_path, server, monkeypatch):
    right = get_card("hippocampus").source
    change_source(monkeypatch, known_hash="sha256:" + "0" * 64)
    with pytest.raises(DataError, match="another hash, which was thrown away; expected sha256:000") as caught:
        fetch("hippocampus", tmp_path / "data", progress=False)
    assert caught.value.file == right.url and "http://medicaldecathlon.com" in caught.value.todo
    assert names(tmp_path / "data") == []
    change_source(monkeypatch, known_hash=right.known_hash)
    fetch("hippocampus", tmp_path / "data", progress=False)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_server_refuses(tmp_path, server, status):
    server.status = status
    with pytest.raises(DataError, match=rf"refuses it \(HTTP {status}\)") as caught:
        fetch("hippocampus", tmp_path / "data", progress=False)
    assert "by hand" in caught.value.todo and server.asked == 1


def test_no_server(tmp_path, server, monkeypatch):
    change_source(monkeypatch, url="http://127.0.0.1:9/x.tar")
    with pytest.raises(DataError, match="no connection"):
        fetch("hippocampus", tmp_path / "data", progress=False)


def test_a_connection_that_breaks_off_leaves_nothing(tmp_path, server):
    server.drop = 200_000
    with pytest.raises(DataError, match="breaks off.*Try again later, or download it by hand"):
        fetch("hippocampus", tmp_path / "data", progress=False)
    assert names(tmp_path / "data") == []
    server.drop = None
    fetch("hippocampus", tmp_path / "data", progress=False)
    assert names(tmp_path / "data") == [FOLDER]


def test_something_else_in_the_way(tmp_path, server):
    (tmp_path / "data" / FOLDER).mkdir(parents=True)
    (tmp_path / "data" / FOLDER / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="found something else.*Move it away"):
        fetch("hippocampus", tmp_path / "data", progress=False)
    assert names(tmp_path / "data" / FOLDER) == ["thesis.txt"] and not server.asked
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        fetch("hippocampus", tmp_path / "file", progress=False)


# -------------------------------------------------------------------------------------------------- unpacking
def packed(path, *members):
    """A tar of (name, type, link name) beside one good file."""
    with tarfile.open(path, "w") as tar:
        for name, kind, link in ((f"{FOLDER}/dataset.json", tarfile.REGTYPE, ""), *members):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            content = b"evil" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "name, kind, link, found",
    [
        ("../evil.txt", tarfile.REGTYPE, "", "a path that leads out of its folder"),
        (f"{FOLDER}/../../evil.txt", tarfile.REGTYPE, "", "a path that leads out of its folder"),
        ("/evil.txt", tarfile.REGTYPE, "", "an absolute path"),
        ("C:/evil.txt", tarfile.REGTYPE, "", "an absolute path"),
        (f"{FOLDER}\\..\\..\\evil.txt", tarfile.REGTYPE, "", "an absolute path"),
        (f"{FOLDER}/link", tarfile.SYMTYPE, "../../..", "a link (to '../../..')"),
        (f"{FOLDER}/link", tarfile.SYMTYPE, "/etc/passwd", "a link (to '/etc/passwd')"),
        (f"{FOLDER}/hard", tarfile.LNKTYPE, "../outside.txt", "a link (to '../outside.txt')"),
        (f"{FOLDER}/pipe", tarfile.FIFOTYPE, "", "a device or another special file"),
        (f"{FOLDER}/null", tarfile.CHRTYPE, "", "a device or another special file"),
        ("elsewhere/evil.txt", tarfile.REGTYPE, "", "outside the data set's folder"),
    ],
)
def test_a_malicious_member_is_named_and_nothing_is_written(tmp_path, name, kind, link, found):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside.txt").write_text("mine")
    archive = packed(tmp_path / "evil.tar", (name, kind, link))
    with pytest.raises(DataError) as caught:
        unpack(archive, root, get_card("hippocampus"))
    assert caught.value.file == str(archive) and caught.value.found == f"the member {name!r}: {found}"
    assert names(root) == [] and names(tmp_path) == ["evil.tar", "outside.txt", "root"]
    assert (tmp_path / "outside.txt").read_text() == "mine"


def test_write_through_a_link_is_refused(tmp_path):
    """The classic: a link to a folder outside, then a file "inside" the link."""
    archive = packed(
        tmp_path / "evil.tar",
        (f"{FOLDER}/out", tarfile.SYMTYPE, str(tmp_path)),
        (f"{FOLDER}/out/evil.txt", tarfile.REGTYPE, ""),
    )
    (tmp_path / "root").mkdir()
    with pytest.raises(DataError, match="a link"):
        unpack(archive, tmp_path / "root", get_card("hippocampus"))
    assert not (tmp_path / "evil.txt").exists()


def test_python_without_the_data_filter(tmp_path, monkeypatch):
    """Python 3.11.0 to 3.11.3 have none; our own check stands alone then."""
    card = get_card("hippocampus")
    for i, (good, member) in enumerate(
        (
            (False, (f"{FOLDER}/link", tarfile.SYMTYPE, "/etc/passwd")),
            (False, ("../evil.txt", tarfile.REGTYPE, "")),
            (True, (f"{FOLDER}/fine.txt", tarfile.REGTYPE, "")),
        )
    ):
        root = tmp_path / str(i)
        root.mkdir()
        archive = packed(tmp_path / f"{i}.tar", member)
        with monkeypatch.context() as patch:
            patch.delattr(tarfile, "data_filter", raising=False)
            patch.setattr(tarfile.TarFile, "extraction_filter", staticmethod(lambda m, path: m), raising=False)
            if good:
                assert (unpack(archive, root, card) / "fine.txt").read_text() == "evil"
            else:
                with pytest.raises(DataError):
                    unpack(archive, root, card)
                assert names(root) == []


def test_broken_archives(tmp_path, archive):
    card, root = get_card("hippocampus"), tmp_path / "root"
    root.mkdir()
    for content, found in (
        (b"not a tar" * 100, "no readable tar"),
        (b"", "no readable tar"),
        (archive.read_bytes()[:8000], "no readable tar"),
    ):
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(DataError, match=found):
            unpack(tmp_path / "x.tar", root, card)
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    with pytest.raises(DataError, match="no folder 'Task04_Hippocampus' in it"):
        unpack(tmp_path / "x.tar", root, card)
    assert names(root) == []


def test_an_unpacking_that_fails_is_repeated_without_a_download(tmp_path, server, monkeypatch):
    real = download.unpack

    def full_disk(*arguments):
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(download, "unpack", full_disk)
    with pytest.raises(DataError, match="No space left on device"):
        fetch("hippocampus", tmp_path / "data", progress=False)
    assert names(tmp_path / "data") == ["Task04_Hippocampus.tar"]
    monkeypatch.setattr(download, "unpack", real)
    fetch("hippocampus", tmp_path / "data", progress=False)
    assert server.asked == 1 and names(tmp_path / "data") == [FOLDER]
