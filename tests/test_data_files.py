"""The files of the room `data`: every fault planted once, and fetching from a server on this machine."""

import gzip
import os
import struct
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch

from neuropil import data
from neuropil.data.files import File, Source, data_root, gunzip, md5, read
from neuropil.data.idx import parse_idx
from neuropil.data.records import parse_records
from neuropil.data.sets import cifar10, mnist
from neuropil.errors import Refusal


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


PLAIN = {
    "train-images-idx3-ubyte": idx(np.arange(5 * 12).reshape(5, 4, 3)),
    "train-labels-idx1-ubyte": idx(np.arange(5)),
    "t10k-images-idx3-ubyte": idx(np.arange(24).reshape(2, 4, 3)),
    "t10k-labels-idx1-ubyte": idx(np.array([9, 0])),
}
PACKED = {name: gzip.compress(raw, mtime=0) for name, raw in PLAIN.items()}
TINY = Source("mnist", "mnist", tuple(File(n, md5(PLAIN[n]), md5(PACKED[n])) for n in PLAIN), ("http://127.0.0.1:9/",))
IMAGES = "train-images-idx3-ubyte.gz"


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A data folder whose MNIST has seven images; the published checksums are theirs."""
    monkeypatch.setattr(mnist, "SOURCE", TINY)
    monkeypatch.setenv("NO_PROXY", "*")
    (tmp_path / "mnist").mkdir()
    for name, raw in PACKED.items():
        (tmp_path / "mnist" / f"{name}.gz").write_bytes(raw)
    return tmp_path


def test_files_are_read_packed_or_plain(tiny):
    for name in PLAIN:
        train, test = data.mnist(tiny)
        assert torch.equal(train.x, torch.arange(60, dtype=torch.uint8).view(5, 1, 4, 3))
        assert train.y.tolist() == [0, 1, 2, 3, 4]
        assert test.y.tolist() == [9, 0]
        (tiny / "mnist" / name).write_bytes(PLAIN[name])
        (tiny / "mnist" / f"{name}.gz").unlink()
    assert len(data.load("mnist", tiny)[0]) == 5


ALTER = {
    "truncated": lambda raw: raw[:-7],
    "one byte flipped": lambda raw: raw[:12] + bytes([raw[12] ^ 1]) + raw[13:],
    "empty": lambda raw: b"",
    "something appended": lambda raw: raw + b"x",
}


@pytest.mark.parametrize("fault", ALTER)
@pytest.mark.parametrize("packed", [True, False])
def test_an_altered_file_is_refused_with_both_checksums(tiny, fault, packed):
    path = tiny / "mnist" / IMAGES
    good = path.read_bytes() if packed else PLAIN[path.stem]
    if not packed:
        path.unlink()
        path = path.with_suffix("")
    path.write_bytes(ALTER[fault](good))
    with pytest.raises(Refusal) as refusal:
        data.mnist(tiny)
    for word in (str(path), md5(good), md5(ALTER[fault](good)), "neuropil data fetch mnist"):
        assert word in str(refusal.value)
    assert [row.status for row in data.check("mnist", tiny)] == ["altered", "ok", "ok", "ok"]


def test_a_file_that_is_packed_where_the_publisher_packs_none_is_read_by_its_content(tiny, monkeypatch):
    plain = Source("mnist", "mnist", tuple(File(n, md5(PLAIN[n])) for n in PLAIN), ("http://127.0.0.1:9/",))
    monkeypatch.setattr(mnist, "SOURCE", plain)
    assert data.mnist(tiny)[1].y.tolist() == [9, 0]
    (tiny / "mnist" / IMAGES).write_bytes(gzip.compress(ALTER["one byte flipped"](PLAIN[IMAGES[:-3]])))
    with pytest.raises(Refusal, match="truncated or altered"):
        data.mnist(tiny)
    assert [row.status for row in data.check("mnist", tiny)] == ["altered", "ok", "ok", "ok"]


def test_a_missing_file_names_the_folder_and_the_command(tiny):
    (tiny / "mnist" / IMAGES).unlink()
    with pytest.raises(Refusal, match=f"{IMAGES}.*{tiny / 'mnist'}.*`neuropil data fetch mnist`"):
        data.mnist(tiny)
    assert [row.status for row in data.check("mnist", tiny)] == ["missing", "ok", "ok", "ok"]
    assert [row.present for row in data.list_sets(tiny) if row.name == "mnist"] == [False]


def test_an_unreadable_file_is_refused(tiny, monkeypatch):
    def broken(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", broken)
    with pytest.raises(Refusal, match=f"{IMAGES} cannot be read: Input/output error"):
        read(TINY, "train-images-idx3-ubyte", tiny)


def test_what_is_not_gzip_is_refused():
    for raw in (b"\x1f", PACKED["train-labels-idx1-ubyte"][:-4], b"plain", b"\x1f\x8b\x08\0\0\0\0\0\0\3garbage"):
        with pytest.raises(Refusal, match=r"a\.gz is not a whole gzip file"):
            gunzip(raw, "a.gz")


GOOD = idx(np.arange(24).reshape(2, 4, 3))
BAD_IDX = {
    "no header": (GOOD[:15], "truncated: an IDX header needs 16 bytes, got 15"),
    "floats": (GOOD[:2] + b"\x0d" + GOOD[3:], "magic 00000803 expected, 00000d03 found"),
    "labels for images": (idx(np.arange(20)), "magic 00000803 expected, 00000801 found"),
    "a byte too few": (GOOD[:-1], "needs 24 bytes .* found 23; it is truncated"),
    "a byte too many": (GOOD + b"\0", "found 25; it is followed by"),
    "a wrong count": (GOOD[:7] + b"\3" + GOOD[8:], r"needs 36 bytes .* \(3, 4, 3\), found 24"),
    "an absurd count": (GOOD[:4] + b"\xff" * 12 + GOOD[16:], "truncated"),
}


@pytest.mark.parametrize("fault", BAD_IDX)
def test_idx_refuses(fault):
    raw, message = BAD_IDX[fault]
    with pytest.raises(Refusal, match=message):
        parse_idx(raw, 3, "x")
    assert np.array_equal(parse_idx(GOOD, 3, "x"), np.arange(24).reshape(2, 4, 3))


def test_fewer_labels_than_images_are_refused(tiny, monkeypatch):
    short = idx(np.arange(4))
    (tiny / "mnist" / "train-labels-idx1-ubyte.gz").unlink()
    (tiny / "mnist" / "train-labels-idx1-ubyte").write_bytes(short)
    files = tuple(File(f.name, md5(short)) if f.name == "train-labels-idx1-ubyte" else f for f in TINY.files)
    monkeypatch.setattr(mnist, "SOURCE", Source("mnist", "mnist", files, ()))
    with pytest.raises(Refusal, match="5 examples and 4 labels"):
        data.mnist(tiny)


def test_cifar_records_are_a_label_and_three_planes():
    raw = b"".join(bytes([k]) + bytes([k]) * 1024 + bytes([20 + k]) * 1024 + bytes([40 + k]) * 1024 for k in (3, 9))
    split = parse_records(raw, "b", cifar10.NAMES)
    assert split.y.tolist() == [3, 9]
    assert split.x[1].flatten(1).unique(dim=1).flatten().tolist() == [9, 29, 49]
    for fault, message in ((raw[:-1], "whole number of records of 3073 bytes, got 6145"), (b"", "got 0 bytes")):
        with pytest.raises(Refusal, match=message):
            parse_records(fault, "b", cifar10.NAMES)
    with pytest.raises(Refusal, match="classes=10, or -1 where there is none, got 3 to 10"):
        parse_records(raw[:3073] + b"\x0a" + raw[3074:], "b", cifar10.NAMES)


def test_the_data_root_is_the_argument_then_the_variable_then_the_cache(monkeypatch):
    monkeypatch.setenv("NEUROPIL_DATA", "/somewhere")
    assert data_root("~/here") == Path.home() / "here"
    assert data_root() == Path("/somewhere")
    monkeypatch.delenv("NEUROPIL_DATA")
    assert data_root() == Path(pooch.os_cache("neuropil"))


@pytest.fixture
def server(tmp_path_factory):
    """A folder behind HTTP on this machine: (folder, URL, paths asked for)."""
    folder, asked = tmp_path_factory.mktemp("served"), []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as http:
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{http.server_port}", asked
        http.shutdown()


def test_fetch_tries_mirrors_in_turn_and_skips_what_is_whole(tiny, server, capsys):
    served, url, asked = server
    for mirror, change in (("altered", ALTER["one byte flipped"]), ("good", bytes)):
        (served / mirror).mkdir()
        for name, raw in PACKED.items():
            (served / mirror / f"{name}.gz").write_bytes(change(raw))
    (tiny / "mnist" / IMAGES).write_bytes(b"altered")
    mirrors = ["http://127.0.0.1:9", f"{url}/none/", f"{url}/altered", f"{url}/good"]
    paths = data.fetch("mnist", tiny, mirrors)
    assert capsys.readouterr().out == ""  # how far it is goes to stderr
    assert asked == [f"/{mirror}/{IMAGES}" for mirror in ("none", "altered", "good")]
    assert (tiny / "mnist" / IMAGES).read_bytes() == PACKED[IMAGES[:-3]]
    assert sorted(paths) == sorted((tiny / "mnist").iterdir())  # nothing else is left
    assert {row.status for row in data.check("mnist", tiny)} == {"ok"}
    data.fetch("mnist", tiny, ["http://127.0.0.1:9"])  # all whole: nobody is asked


def test_fetch_makes_the_folder_and_says_why_every_mirror_failed(tiny, server):
    served, url, _ = server
    (served / IMAGES).write_bytes(b"x")
    new = tiny / "deep" / "er"
    with pytest.raises(Refusal) as refusal:
        data.fetch("mnist", new, ["http://127.0.0.1:9", f"{url}/none", url])
    for word in ("no connection", "HTTP 404", f"md5 {TINY.files[0].gz_md5} expected, {md5(b'x')} found", str(new)):
        assert word in str(refusal.value)
    assert list((new / "mnist").iterdir()) == []
    (served / IMAGES).write_bytes(PACKED[IMAGES[:-3]])
    with pytest.raises(Refusal, match=r"train-labels-idx1-ubyte\.gz could not be fetched"):
        data.fetch("mnist", new, [url])
    assert [path.name for path in (new / "mnist").iterdir()] == [IMAGES]  # what came whole is kept


STOPS = {
    "full disk": (OSError(28, "No space left on device"), Refusal, "cannot write into {}: No space left on device"),
    "Ctrl-C": (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
}


@pytest.mark.parametrize("stop", STOPS)
def test_a_download_that_stops_leaves_nothing_half_written(stop, tiny, monkeypatch):
    fault, seen, message = STOPS[stop]

    def full(self, url, path, _):
        Path(path).write_bytes(b"half")
        raise fault

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", full)
    before = sorted((tiny / "mnist").iterdir())
    (tiny / "mnist" / IMAGES).write_bytes(b"altered")
    with pytest.raises(seen, match=message.format(tiny / "mnist")):
        data.fetch("mnist", tiny)
    assert sorted((tiny / "mnist").iterdir()) == before
    assert (tiny / "mnist" / IMAGES).read_bytes() == b"altered"


def test_a_file_larger_than_any_published_one_is_not_read(tiny):
    path = tiny / "mnist" / IMAGES
    os.truncate(path, 20 << 30)  # takes no room on the disk
    with pytest.raises(Refusal, match=r"train-images-idx3-ubyte\.gz has 20\.0 GiB, and at most 0\.2 can be read"):
        data.mnist(tiny)
    path.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(Refusal, match=r"big\.gz unpacks to more than"):
        gunzip(path.read_bytes(), "big.gz", most=(1 << 20) - 1)
    assert len(gunzip(path.read_bytes(), "big.gz", most=1 << 20)) == 1 << 20


def test_a_server_that_does_not_stop_is_left(tiny, monkeypatch):
    def endless(self, url, path, _):
        while True:
            self.progressbar.update(1 << 26)

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", endless)
    (tiny / "mnist" / IMAGES).unlink()
    with pytest.raises(Refusal, match="more than 256 MiB came, which no published file has"):
        data.fetch("mnist", tiny)


def test_a_file_in_the_way_and_a_set_without_files_are_refused(tiny):
    (tiny / "file").write_text("")
    with pytest.raises(Refusal, match=r"cannot write into .*Not a directory"):
        data.fetch("mnist", tiny / "file")
    with pytest.raises(Refusal, match="'digits' needs no fetching: it comes with scikit-learn"):
        data.fetch("digits", tiny)
    assert data.check("digits") == []


def tar_of(*members):
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, raw, kind in members:
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(raw), kind, "/etc/passwd"
            archive.addfile(info, BytesIO(raw))
    return out.getvalue()


TARS = {
    "good": (tar_of(("c/a.bin", b"AA", tarfile.REGTYPE), ("c/../../evil", b"no", tarfile.REGTYPE)), None),
    "link": (tar_of(("c/a.bin", b"", tarfile.SYMTYPE)), "a.bin in c.tar.gz is not a regular file"),
    "other content": (tar_of(("c/a.bin", b"AB", tarfile.REGTYPE)), f"altered: md5 {md5(b'AA')} expected"),
    "without the file": (tar_of(("c/b.bin", b"AA", tarfile.REGTYPE)), "not the published archive: .*a.bin"),
    "not a tar": (b"something else", "not the published archive"),
    "cut": (tar_of(("c/a.bin", os.urandom(9999), tarfile.REGTYPE))[:500], "not the published archive"),
}


@pytest.mark.parametrize("kind", TARS)
def test_an_archive_gives_only_the_files_it_should(kind, tiny, server, monkeypatch):
    raw, message = TARS[kind]
    served, url, _ = server
    (served / "c.tar.gz").write_bytes(raw)
    source = Source("cifar10", "c", (File("a.bin", md5(b"AA")),), (url,), File("c.tar.gz", md5(raw)))
    monkeypatch.setattr(cifar10, "SOURCE", source)
    root = tiny / "below" / "root"
    if message is None:
        monkeypatch.setattr(cifar10, "SOURCE", replace(source, mirrors=("http://127.0.0.1:9/",)))
        assert data.fetch("cifar10", root, mirrors=[url]) == [root / "c" / "a.bin"]
    else:
        with pytest.raises(Refusal, match=message):
            data.fetch("cifar10", root)
    assert [path.name for path in (tiny / "below").rglob("*") if path.is_file()] == ["a.bin"] * (message is None)
