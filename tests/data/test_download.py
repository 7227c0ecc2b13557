"""Fetching from a server on this machine: resumed, verified, unpacked safely. No test needs a network."""

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
import requests

from shapelab.data import download, fetch
from shapelab.data.download import RECORD, ResumingDownloader, Source, unpack
from shapelab.errors import DataError, UsageError

FOLDER = "Task04_Hippocampus"


class Server:
    """What the local server does, and what it was asked.

    drops : after how many bytes it breaks off the first, second, ... answer; None: not at all
    """

    def __init__(self, content: bytes):
        self.content, self.drops, self.asked = content, [], []
        self.tag, self.ranges, self.status, self.lie = '"v1"', True, 200, 0


@contextmanager
def serving(server: Server):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers.get("Range")
            server.asked.append(asked)
            if server.status != 200:
                return self.send_error(server.status)
            start, whole = 0, len(server.content)
            if server.ranges and asked and self.headers.get("If-Range") in (None, server.tag):
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= whole:
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{whole}")
                    self.send_header("Content-Length", "0")
                    return self.end_headers()
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start + server.lie}-{whole - 1}/{whole}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(whole - start))
            if server.tag:
                self.send_header("ETag", server.tag)
            self.end_headers()
            drop = server.drops.pop(0) if server.drops else None
            self.wfile.write(server.content[start : whole if drop is None else start + drop])
            if drop is not None:
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


@pytest.fixture
def server(archive, monkeypatch):
    """A running server with the archive, which `fetch("hippocampus")` now asks instead of the publisher's."""
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server(archive.read_bytes())
    with serving(server) as url:
        monkeypatch.setitem(
            download.SOURCES,
            "hippocampus",
            Source(
                url,
                "sha256:" + hashlib.sha256(server.content).hexdigest(),
                "Task04_Hippocampus.tar",
                FOLDER,
                len(server.content),
            ),
        )
        yield server


def names(folder):
    return sorted(p.name for p in folder.iterdir())


# --------------------------------------------------------------------------------------------- the real source
def test_the_real_source_is_pinned():
    source = download.SOURCES["hippocampus"]
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
    assert record["known_hash"] == download.SOURCES["hippocampus"].known_hash
    from shapelab.data import open_cohort

    assert len(open_cohort("hippocampus", root)) == 2
    assert folder.stat().st_mode & 0o777 == 0o755 and (folder / "dataset.json").stat().st_mode & 0o777 == 0o644


def test_what_is_there_is_not_fetched_again(tmp_path, server):
    fetch("hippocampus", tmp_path / "data", progress=False)
    n = len(server.asked)
    assert fetch("hippocampus", tmp_path / "data", progress=False) == tmp_path / "data" / FOLDER
    assert len(server.asked) == n


def test_shapelab_data_is_the_default_root(tmp_path, server, monkeypatch):
    monkeypatch.setenv("SHAPELAB_DATA", str(tmp_path / "data"))
    assert fetch("hippocampus", progress=False) == tmp_path / "data" / FOLDER
    monkeypatch.delenv("SHAPELAB_DATA")
    with pytest.raises(UsageError, match="no environment variable SHAPELAB_DATA"):
        fetch("hippocampus")


def test_progress_goes_to_stderr(tmp_path, server, capsys):
    fetch("hippocampus", tmp_path / "data")
    assert "Task04_Hippocampus.tar: 100%" in capsys.readouterr().err


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


# --------------------------------------------------------------------------------------------------- resuming
def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path, server):
    server.drops = [200_000, 100_000]
    fetch("hippocampus", tmp_path / "data", progress=False)
    assert server.asked[0] is None and len(server.asked) == 3
    first, second = (int(asked.removeprefix("bytes=").rstrip("-")) for asked in server.asked[1:])
    assert 0 < first <= 200_000 and first < second <= first + 100_000


def test_it_goes_on_in_a_later_run_too(tmp_path, server):
    server.drops = [200_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match="Run the same command again, it goes on where it stopped"):
        fetch("hippocampus", tmp_path / "data", progress=False)
    part = tmp_path / "data" / "Task04_Hippocampus.tar.part"
    kept = part.stat().st_size
    assert 0 < kept <= 200_000 and not (tmp_path / "data" / FOLDER).exists()
    server.asked.clear()
    server.drops.clear()
    fetch("hippocampus", tmp_path / "data", progress=False)
    assert server.asked == [f"bytes={kept}-"] and names(tmp_path / "data") == [FOLDER]


def test_a_part_of_another_version_is_thrown_away(tmp_path, server):
    server.drops = [200_000, 0, 0, 0, 0]
    with pytest.raises(DataError):
        fetch("hippocampus", tmp_path / "data", progress=False)
    server.tag, server.drops = '"v2"', []
    fetch("hippocampus", tmp_path / "data", progress=False)
    assert names(tmp_path / "data") == [FOLDER]


@pytest.mark.parametrize("change", [{"ranges": False}, {"tag": ""}, {"tag": 'W/"weak"'}, {"lie": 1}])
def test_servers_that_cannot_resume_start_over(tmp_path, server, change):
    for name, value in change.items():
        setattr(server, name, value)
    server.drops = [200_000]
    fetch("hippocampus", tmp_path / "data", progress=False)
    assert names(tmp_path / "data") == [FOLDER]


def test_a_part_that_is_complete_or_too_long(tmp_path, server):
    url = download.SOURCES["hippocampus"].url
    for extra in (b"", b"xx"):
        part = tmp_path / "a.part"
        part.write_bytes(server.content + extra)
        (tmp_path / "a.part.tag").write_text('"v1"')
        ResumingDownloader(part)(url, tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == server.content
        assert not part.exists() and not (tmp_path / "a.part.tag").exists()


def test_it_gives_up_when_nothing_new_arrives(tmp_path, server):
    server.drops = [0] * 10
    with pytest.raises(requests.RequestException):
        ResumingDownloader(tmp_path / "a.part", tries=3)(download.SOURCES["hippocampus"].url, tmp_path / "out")
    assert len(server.asked) == 3


# --------------------------------------------------------------------------------------------- what goes wrong
def test_wrong_hash(tmp_path, server, monkeypatch):
    right = download.SOURCES["hippocampus"]
    monkeypatch.setitem(download.SOURCES, "hippocampus", replace(right, known_hash="sha256:" + "0" * 64))
    with pytest.raises(DataError, match="another hash, which was thrown away; expected sha256:000") as caught:
        fetch("hippocampus", tmp_path / "data", progress=False)
    assert caught.value.file == right.url and "http://medicaldecathlon.com" in caught.value.todo
    assert names(tmp_path / "data") == []
    monkeypatch.setitem(download.SOURCES, "hippocampus", right)
    fetch("hippocampus", tmp_path / "data", progress=False)


@pytest.mark.parametrize("status", [403, 404, 500])
def test_server_refuses(tmp_path, server, status):
    server.status = status
    with pytest.raises(DataError, match=rf"refuses it \(HTTP {status}\)") as caught:
        fetch("hippocampus", tmp_path / "data", progress=False)
    assert "by hand" in caught.value.todo and len(server.asked) == 1


def test_no_server(tmp_path, server, monkeypatch):
    source = download.SOURCES["hippocampus"]
    monkeypatch.setitem(download.SOURCES, "hippocampus", replace(source, url="http://127.0.0.1:9/x.tar"))
    with pytest.raises(DataError, match="no connection"):
        fetch("hippocampus", tmp_path / "data", progress=False)


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
        unpack(archive, root, download.SOURCES["hippocampus"])
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
        unpack(archive, tmp_path / "root", download.SOURCES["hippocampus"])
    assert not (tmp_path / "evil.txt").exists()


def test_python_without_the_data_filter(tmp_path, monkeypatch):
    """Python 3.11.0 to 3.11.3 have none; our own check stands alone then."""
    source = download.SOURCES["hippocampus"]
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
                assert (unpack(archive, root, source) / "fine.txt").read_text() == "evil"
            else:
                with pytest.raises(DataError):
                    unpack(archive, root, source)
                assert names(root) == []


def test_broken_archives(tmp_path, archive):
    source, root = download.SOURCES["hippocampus"], tmp_path / "root"
    root.mkdir()
    for content, found in (
        (b"not a tar" * 100, "no readable tar"),
        (b"", "no readable tar"),
        (archive.read_bytes()[:8000], "no readable tar"),
    ):
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(DataError, match=found):
            unpack(tmp_path / "x.tar", root, source)
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    with pytest.raises(DataError, match="no folder 'Task04_Hippocampus' in it"):
        unpack(tmp_path / "x.tar", root, source)
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
    assert len(server.asked) == 1 and names(tmp_path / "data") == [FOLDER]
