"""Data and learners of one's own: what is taken, what is refused in one line, and what the commands make of it."""

import gzip
import shutil
import tarfile
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from neuropil import Split, data
from neuropil.data.files import File, Source, md5
from neuropil.data.sets import cifar10, mnist
from neuropil.errors import Refusal
from test_data_files import PACKED, PLAIN, TINY, idx

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (15, 5, 7), dtype=np.uint8)  # grey images, 5 high and 7 wide
LABELS = np.arange(15) % 3
NAMES = np.array(["cat", "ape", "dog"])[LABELS]


def test_numpy_arrays_become_images_and_vectors_and_are_copied():
    grey = Split.from_numpy(BYTES, LABELS)
    assert (grey.x.shape, grey.x.dtype, grey.classes, grey.names) == ((15, 1, 5, 7), torch.uint8, 3, ())
    BYTES_THEN = BYTES.copy()
    grey.x.zero_()
    assert (BYTES == BYTES_THEN).all()
    colour = Split.from_numpy(np.stack([BYTES] * 3, 3) / 255, LABELS, channels_last=True)
    assert (colour.x.shape, colour.x.dtype) == ((15, 3, 5, 7), torch.float32)
    assert torch.equal(colour.x[:, 1], torch.tensor(BYTES) / 255)
    vectors = Split.from_numpy(np.arange(30).reshape(15, 2), LABELS.astype(np.uint8), classes=5)
    assert (vectors.x[3].tolist(), vectors.classes, vectors.y.dtype) == ([6.0, 7.0], 5, torch.int64)


def test_names_of_classes_are_sorted_or_as_given_and_stay_with_every_part():
    split = Split.from_numpy(BYTES, NAMES)
    assert split.names == ("ape", "cat", "dog")
    assert split.y[:3].tolist() == [1, 0, 2]
    for part in (split[2:5], split.to("cpu"), data.subset(split, 6, 0), data.hold_out(split, 0.5, 0)[1]):
        assert part.names == split.names
    given = Split.from_numpy(BYTES, NAMES, names=("dog", "cat", "ape"))
    assert given.y[:3].tolist() == [1, 2, 0]
    with pytest.raises(Refusal, match="unknown class 'dog'"):
        Split.from_numpy(BYTES, NAMES, names=("cat", "ape"))


def test_the_shape_of_64_channels_is_taken_where_it_is_said_so():
    signals = RNG.random((15, 64, 5, 3))
    with pytest.raises(Refusal, match=r"\(15, 64, 5, 3\) looks channels-last; use x\.transpose\(0, 3, 1, 2\), or say"):
        Split.from_numpy(signals, LABELS)
    meant = Split.from_numpy(signals, LABELS, channels_last=False)
    assert data.relabel(meant, [0, 1, -1]).x.shape == (10, 64, 5, 3)
    assert Split.from_numpy(signals, LABELS, channels_last=True).x.shape == (15, 3, 64, 5)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (BYTES.astype(int), LABELS, "images need uint8, or floats in .* got int64, .*astype"),
        (BYTES / 1.0, LABELS, "pixels in .* divide by 255, without Normalize"),
        (np.full((2, 3), np.nan), [0, 1], "NaN or infinity in 2 of 2 examples"),
        (np.full((2, 3), 1e300), [0, 1], "NaN or infinity"),
        (BYTES, LABELS / 2, "whole numbers or names, got float64"),
        (BYTES, np.eye(3)[LABELS], r"got \(15, 3\); of one-hot rows take y.argmax\(1\)"),
        (BYTES, [None] * 15, "got None, a NoneType"),
        (BYTES, LABELS[:5], "15 examples and 5 labels"),
        (np.array(["a", "b"]), [0, 1], "array of numbers"),
        (BYTES[None], LABELS, r"x needs|one label"),
        (np.zeros((2, 2, 2, 2, 2)), [0, 1], r"x needs images .* got \(2, 2, 2, 2, 2\)"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_from_numpy_refuses(x, y, message):
    with pytest.raises(Refusal, match=message):
        Split.from_numpy(x, y)


def test_an_array_given_to_split_itself_is_told_of_from_numpy():
    with pytest.raises(Refusal, match="torch tensor, got ndarray; use"):
        Split(BYTES, LABELS, 3)


def photo(folder, name, image):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(folder / name)


def test_folders_of_images_are_classes_grey_or_in_colour(tmp_path):
    for number, (image, name) in enumerate(zip(BYTES, NAMES)):
        photo(tmp_path / name, f"{number:02}.png", image)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    split = Split.from_folder(tmp_path)
    assert (split.names, split.x.shape) == (("ape", "cat", "dog"), (15, 1, 5, 7))
    assert torch.equal(split.x[0, 0], torch.tensor(BYTES[1]))  # the first ape
    photo(tmp_path / "emu", "DSC_1.PNG", BYTES[0])  # as cameras and Windows name them
    photo(tmp_path / "emu", "DSC_2.Jpg", BYTES[0])
    assert Split.from_folder(tmp_path).names == ("ape", "cat", "dog", "emu")
    assert Split.from_folder(tmp_path).y.bincount().tolist()[-1] == 2
    shutil.rmtree(tmp_path / "emu")
    photo(tmp_path / "dog", "99.png", np.stack([BYTES[0]] * 3, 2))
    assert Split.from_folder(tmp_path).x.shape == (16, 3, 5, 7)
    photo(tmp_path / "dog", "large.jpg", np.zeros((10, 14), np.uint8))
    with pytest.raises(Refusal, match=r"one size, got 10x14 in .*large.jpg and 5x7"):
        Split.from_folder(tmp_path)
    assert Split.from_folder(tmp_path, size=(4, 6)).x.shape == (17, 3, 4, 6)
    (tmp_path / "dog" / "broken.png").write_bytes(b"nothing")
    with pytest.raises(Refusal, match=r"broken\.png is no PNG or JPEG image"):
        Split.from_folder(tmp_path, size=(4, 6))
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(tmp_path / "dog" / "broken.png")
    with pytest.raises(Refusal, match=r"broken\.png has more than 8 bits a pixel; save it with 8"):
        Split.from_folder(tmp_path, size=(4, 6))
    with pytest.raises(Refusal, match="needs a folder with PNG or JPEG images for each class"):
        Split.from_folder(tmp_path / "cat")
    with pytest.raises(Refusal, match="there is no folder"):
        Split.from_folder(tmp_path / "bird")


def test_photographs_stand_upright(tmp_path):
    """A camera that was held on its side says so in the file, as orientation 6 or 8."""
    for orientation, turns in ((6, -1), (8, 1)):
        (tmp_path / "cat").mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(BYTES[0]).save(tmp_path / "cat" / "photo.png", exif=exif)
        upright = torch.from_numpy(np.rot90(BYTES[0], turns).copy())
        assert torch.equal(Split.from_folder(tmp_path).x[0, 0], upright)


def test_a_folder_has_a_train_and_a_test_part_or_is_split_by_the_seed(tmp_path):
    for number, (image, name) in enumerate(zip(BYTES, NAMES)):
        for part in ("whole", "parts/train", *(["parts/test"] if number < 2 else [])):
            photo(tmp_path / part / name, f"{number}.png", image)
    train, test = data.load(str(tmp_path / "parts"))
    assert (len(train), len(test), test.names, test.classes) == (15, 2, ("ape", "cat", "dog"), 3)
    (rest, held), (_, other) = (data.load(str(tmp_path / "whole"), seed=seed) for seed in (0, 1))
    assert (len(rest), len(held)) == (12, 3)
    assert not torch.equal(held.x, other.x)


def test_npz_files_by_the_usual_names_and_never_unpickled(tmp_path):
    np.savez(tmp_path / "one.npz", images=BYTES, labels=LABELS + 5)
    np.savez(tmp_path / "two.npz", x_train=BYTES, y_train=LABELS[:, None], x_test=BYTES[:4], y_test=LABELS[:4])
    np.savez(tmp_path / "three.npz", train_images=BYTES, train_labels=NAMES, test_images=BYTES, test_labels=NAMES)
    train, test = data.load(str(tmp_path / "one.npz"))
    assert (len(train), len(test), train.names, train.y.unique().tolist()) == (12, 3, ("5", "6", "7"), [0, 1, 2])
    assert [len(part) for part in data.load(str(tmp_path / "two.npz"))] == [15, 4]
    assert data.load(str(tmp_path / "three.npz"))[1].names == ("ape", "cat", "dog")
    np.savez(tmp_path / "four.npz", x=BYTES, y=LABELS, x_val=BYTES[:7], y_val=LABELS[:7])  # a fifth of x is held out
    assert [len(part) for part in data.load(str(tmp_path / "four.npz"))] == [12, 3]
    np.savez(tmp_path / "evil.npz", x=BYTES, y=np.array([{}] * 15, dtype=object))
    with pytest.raises(Refusal, match=r"evil\.npz cannot be read: .*pickle"):
        data.load(str(tmp_path / "evil.npz"))
    for name, content in (("text.npz", b"hello"), ("short.npz", (tmp_path / "one.npz").read_bytes()[:500])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(Refusal, match=r"is no \.npz file, or a damaged one"):
            data.load(str(tmp_path / name))
    np.savez(tmp_path / "none.npz", x=BYTES[:0], y=LABELS[:0])
    with pytest.raises(Refusal, match="at least one label, got none"):
        data.load(str(tmp_path / "none.npz"))
    np.savez(tmp_path / "bare.npz", stuff=BYTES)
    with pytest.raises(Refusal, match=r"needs arrays x and y, .*; found stuff"):
        data.load(str(tmp_path / "bare.npz"))


@pytest.mark.parametrize(
    ("text", "x", "names"),
    [
        ("a,b,class\n1,200,dog\n3,400,cat\n", [[1, 200], [3, 400]], ("cat", "dog")),
        ("label;a;b\n7;1;2\n9;3;4\n", [[1, 2], [3, 4]], ("7", "9")),
        ("0,1,label\n1,2,dog\n3,4,cat\n", [[1, 2], [3, 4]], ("cat", "dog")),  # columns are numbered
        ("wide,high,animal\n1,2,dog\n3,4,cat\n", [[1, 2], [3, 4]], ("cat", "dog")),
        ("1,2,dog\n3,4,cat\n", [[1, 2], [3, 4]], ("cat", "dog")),
        ("1\t2\t0\n3\t4\t1\n", [[1, 2], [3, 4]], ()),
    ],
)
def test_tables_with_and_without_names_of_columns(text, x, names, tmp_path):
    (tmp_path / "train.csv").write_text(text)
    (tmp_path / "test.csv").write_text(text)
    train, test = data.load(str(tmp_path))
    spread = torch.tensor(x, dtype=torch.float32).std(0, correction=0)
    torch.testing.assert_close(train.x * spread + torch.tensor(x).float().mean(0), torch.tensor(x).float())
    assert torch.equal(train.x, test.x)
    assert train.names == names


def test_a_table_is_standardised_by_its_training_part_alone(tmp_path):
    (tmp_path / "train.csv").write_text("1,5,a\n3,5,b\n")
    (tmp_path / "test.csv").write_text("5,7,a\n7,5,b\n")
    train, test = data.load(str(tmp_path))
    assert train.x.tolist() == [[-1, 0], [1, 0]]
    assert test.x.tolist() == [[3, 2], [5, 0]]
    (tmp_path / "train.csv").write_text("0,0.5,a\n1,0,b\n")
    assert data.load(str(tmp_path))[0].x.tolist() == [[0, 0.5], [1, 0]]  # in [0, 1] already


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a row for each example"),
        ("1,2,a\n1,b\n", "3 cells in every row, got 2 in line 2"),
        ("1,2,a\n1,x,b\n", r"a number in every cell but the label's, got \['x'\] in line 2"),
        ("1,2,a\n1,nan,b\n2,2,a\n2,3,b\n", "NaN or infinity"),
        ("a,b,label\n1,2,a\n1,2,\n", "a label in every row, got none in line 3"),
        (b"1,2,caf\xe9\n1,2,caf\xe8\n", "text in UTF-8, got other bytes"),
        ("1,2,a\n1,2,dog\n1,3,dog\n1,4,dog\n1,5,dog\n", "class 'a' has 1 and would have 0 held out"),
    ],
)
def test_tables_that_are_none_are_refused(text, message, tmp_path):
    (tmp_path / "x.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(Refusal, match=message):
        data.load(str(tmp_path / "x.csv"))


def test_test_examples_are_like_training_examples_and_have_labels(tmp_path):
    save = lambda name, **arrays: np.savez(tmp_path / name, x_train=BYTES, y_train=LABELS, **arrays)
    save("cut.npz", x_test=BYTES[:, :3], y_test=LABELS)
    with pytest.raises(Refusal, match=r"one shape and the same classes, got \(1, 5, 7\) in 3 .* and \(1, 3, 7\) in 3"):
        data.load(str(tmp_path / "cut.npz"))
    save("holes.npz", x_test=BYTES, y_test=np.where(LABELS == 1, -1, LABELS))
    assert data.load(str(tmp_path / "holes.npz"))[1].y.unique().tolist() == [0, 2]
    np.savez(tmp_path / "some.npz", x=BYTES.repeat(4, 0), y=np.where(np.arange(60) < 15, -1, LABELS.repeat(4)))
    train, test = data.load(str(tmp_path / "some.npz"))
    assert (int((train.y < 0).sum()), int(test.y.min())) == (12, 0)
    others = np.where(np.arange(60) < 15, -1, 3 * LABELS.repeat(4) + 2)  # neither 0, 1, 2 nor all with a label
    np.savez(tmp_path / "names.npz", x=BYTES.repeat(4, 0), y=others)
    named, held = data.load(str(tmp_path / "names.npz"))
    assert named.names == ("2", "5", "8")
    assert [torch.equal(*pair) for pair in ((named.y, train.y), (held.y, test.y))] == [True, True]


def test_idx_files_of_relatives_of_mnist(tmp_path):
    for name, raw in PLAIN.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(raw))
    train, test = data.load(str(tmp_path))
    assert (train.x.shape, test.x.shape) == ((5, 1, 4, 3), (2, 1, 4, 3))
    assert (train.names, test.y.tolist()) == (("0", "1", "2", "3", "4", "9"), [5, 0])
    letters = tmp_path / "emnist"
    letters.mkdir()
    for part, kind, raw in (("train", "images-idx3", BYTES), ("train", "labels-idx1", LABELS + 1)):
        (letters / f"emnist-letters-{part}-{kind}-ubyte").write_bytes(idx(raw))
    train, test = data.load(str(letters / "emnist-letters-train-images-idx3-ubyte"))
    assert (train.x.shape, train.names, len(test)) == ((12, 1, 7, 5), ("1", "2", "3"), 3)  # stored transposed
    assert np.array_equal(data.read_idx(letters / "emnist-letters-train-images-idx3-ubyte"), BYTES)


def test_cifar_100_files_have_two_labels_of_which_the_fine_one_counts(tmp_path):
    record = lambda coarse, fine: bytes([coarse, fine]) + bytes([fine]) * 3072
    (tmp_path / "train.bin").write_bytes(record(1, 99) + record(2, 7))
    (tmp_path / "test.bin").write_bytes(record(3, 7))
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"thing{k}" for k in range(100)))
    train, test = data.load(str(tmp_path))
    assert (train.x.shape, train.y.tolist(), test.names[7]) == ((2, 3, 32, 32), [99, 7], "thing7")
    assert train.x[0].unique().tolist() == [99]


def test_one_class_is_nothing_to_tell_apart(tmp_path):
    np.savez(tmp_path / "one.npz", x=np.zeros((9, 6, 6), np.uint8), y=["cat"] * 9)
    with pytest.raises(Refusal, match="two classes or more, got one: cat"):
        data.load(str(tmp_path / "one.npz"))


def test_what_is_no_data_is_refused(tmp_path):
    (tmp_path / "x.txt").touch()
    for path, message in ((tmp_path / "none", "no file or folder"), (tmp_path / "x.txt", "data need a folder")):
        with pytest.raises(Refusal, match=message):
            data.load(str(path))
    with pytest.raises(Refusal, match="needs a folder of images for each class, train/ and test/"):
        data.load(str(tmp_path))
    with pytest.raises(Refusal, match="Did you mean 'digits'"):
        data.load("digit")


def test_published_files_are_found_in_other_layouts_and_packed_anew(tmp_path, monkeypatch):
    source = Source("mnist", "mnist", TINY.files, (), layouts=("MNIST/raw",))
    monkeypatch.setattr(mnist, "SOURCE", source)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in PLAIN.items():
        anew = gzip.compress(content, compresslevel=1, mtime=1)
        assert anew != PACKED[name]
        (raw / f"{name.replace('-idx', '.idx')}.gz").write_bytes(anew)
    assert [len(part) for part in data.mnist(tmp_path)] == [5, 2]
    assert {row.status for row in data.check("mnist", tmp_path)} == {"ok"}
    assert data.fetch("mnist", tmp_path, ["http://127.0.0.1:9"])[0].parent == raw
    (raw / "train-labels.idx1-ubyte.gz").write_bytes(gzip.compress(b"others"))
    with pytest.raises(Refusal, match="truncated or altered"):
        data.mnist(tmp_path)


RECORDS = bytes([3]) + bytes(3072)


@pytest.mark.parametrize("place", ["", "c"])
def test_an_archive_in_the_data_folder_is_read_and_unpacked_without_a_network(place, tmp_path, monkeypatch):
    out = BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("a.bin", "b.bin"):
            info = tarfile.TarInfo(f"c/{name}")
            info.size = len(RECORDS)
            archive.addfile(info, BytesIO(RECORDS))
    files = tuple(File(name, md5(RECORDS)) for name in ("a.bin", "b.bin"))
    source = Source(
        "cifar10", "c", files, ("http://127.0.0.1:9",), File("c.tar.gz", md5(out.getvalue())), (), ("p.tar",)
    )
    monkeypatch.setattr(cifar10, "SOURCE", source)
    (tmp_path / "p.tar").touch()
    with pytest.raises(Refusal, match=r"p\.tar holds pickles, which are never loaded"):
        data.cifar10(tmp_path)
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "c.tar.gz").write_bytes(out.getvalue())
    assert [part.y.tolist() for part in data.cifar10(tmp_path)] == [[3], [3]]
    assert [row.status for row in data.check("cifar10", tmp_path)] == ["ok"]
    assert [row.present for row in data.list_sets(tmp_path) if row.name == "cifar10"] == [True]
    (tmp_path / place / "c.tar.gz").write_bytes(
        gzip.compress(gzip.decompress(out.getvalue()), compresslevel=1, mtime=5)
    )
    assert [row.status for row in data.check("cifar10", tmp_path)] == ["ok"]  # packed anew
    assert data.fetch("cifar10", tmp_path) == [tmp_path / "c" / name for name in ("a.bin", "b.bin")]


def table(path, head, rows):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([head, *rows]) + "\n")


def test_columns_of_test_tables_are_found_by_name(tmp_path):
    table(tmp_path / "t/train.csv", "width,depth,label", ["1,20,a", "2,30,b", "3,40,a", "4,50,b"])
    table(tmp_path / "t/test.csv", "label,Depth, width", ["b,70,5", "a,80,6"])
    train, test = data.load(str(tmp_path / "t"))
    wide = data.load(str(tmp_path / "t"))[0].x
    assert torch.equal(train.x, wide)
    shift, scale = (train.x[1] - train.x[0]) / torch.tensor([1.0, 10.0]), train.x[0]
    want = torch.tensor([[5.0, 70.0], [6.0, 80.0]]) * shift + (scale - torch.tensor([1.0, 20.0]) * shift)
    torch.testing.assert_close(test.x, want)
    assert test.y.tolist() == [1, 0]
    table(tmp_path / "t/test.csv", "width,height,label", ["5,70,b"])
    with pytest.raises(Refusal, match="columns of the training examples, width, depth, got width, height"):
        data.load(str(tmp_path / "t"))


def test_a_column_that_numbers_the_examples_is_no_feature(tmp_path):
    for first in ("0", "7"), ("12", "3"):
        table(tmp_path / "one.csv", ",width,label", [f"{first[0]},0.5,a", f"{first[1]},0.7,b"])
        with pytest.raises(Refusal, match="numbers its examples in a column without a name; save it without, as index"):
            data.load(str(tmp_path / "one.csv"))
    table(tmp_path / "one.csv", ",width,label", [f"0,{k},{'ab'[k % 2]}" for k in range(20)])
    assert data.load(str(tmp_path / "one.csv"))[0].x.shape[1] == 2  # which says the same of several is a feature
