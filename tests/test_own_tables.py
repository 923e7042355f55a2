"""Tables as spreadsheets write them: marks, decimal commas, empty cells, and which column is the label."""

import pytest
import torch
from PIL import Image

from neuropil import data
from neuropil.data import Split, hold_out, subset
from neuropil.data.tables import read_table
from neuropil.errors import Refusal

PLAIN = "breite,höhe,label\n1.5,2.25,hund\n-3.0,1e2,katze\n"


def table_of(text, tmp_path, name="t.csv", encoding="utf-8"):
    (tmp_path / name).write_bytes(text.encode(encoding))
    return read_table(tmp_path / name)


SAME = {
    "a mark": PLAIN,
    "semicolons and commas": "breite;höhe;label\n1,5;2,25;hund\n-3,0;1e2;katze\n",
    "tabs and commas": "breite\thöhe\tlabel\r\n1,5\t2,25\thund\r\n-3\t100\tkatze\r\n",
    "told": "sep=;\nbreite;höhe;label\n1.5;2.25;hund\n-3.0;100;katze\n",
    "comments and empty lines": "# of 2026\n\nbreite,höhe,label\n1.5,2.25,hund\n# a pause\n-3,100,katze\n\n",
    "heads after a mark": "# a table, of 2026\n#breite,höhe,label\n1.5,2.25,hund\n-3,100,katze\n",
    "empty columns and rows": "breite;höhe;label;;\n1.5;2.25;hund;;\n;;;;\n-3.0;100;katze;;\n",
    "spaces": " breite , höhe,label\n 1.5 , 2.25, hund \n-3,100,katze\n",
}


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_one_table_in_many_hands(name, encoding, tmp_path):
    found = table_of(SAME[name], tmp_path, encoding=encoding)
    assert found.x.tolist() == [[1.5, 2.25], [-3.0, 100.0]]
    assert found.y.tolist() == ["hund", "katze"]
    assert found.names == ["breite", "höhe"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "a;b;label\n1,5;2.5;x\n1,2;3,1;y\n",
            r"decimal comma, '1,5', and others with a point, '2.5'; write all in one way",
        ),
        ("a;b;label\n1,5;1.234,5;x\n", r"others with a point, '1.234,5'"),
        ("a,b,label\n1,,x\n1,2,y\n", r"has a cell without a number, \[''\], in line 2; fill it, or leave its row"),
        ("a,b,label\n\n1,NA,x\n1,2,y\n", r"has a cell without a number, \['NA'\], in line 3"),
        (f"a,b,label\n1,2,{'x' * 200_000}\n", "is no table of cells .*field larger than field limit"),
        ("# one\na,b,label\n1,2,x\n# two\n1,ten,y\n", r"got \['ten'\] in line 5"),
    ],
)
def test_what_is_no_number_is_named_with_its_line(text, says, tmp_path):
    with pytest.raises(Refusal, match=says):
        table_of(text, tmp_path)


def test_a_last_column_of_numbers_is_told_to_be_the_label(tmp_path):
    with pytest.warns(
        UserWarning, match=r"the label is taken from its last column, 'subject'; call the column 'label'"
    ):
        found = table_of("rate,trial,subject\n0.1,1,3\n0.2,2,4\n", tmp_path)
    assert found.y.tolist() == [3, 4]
    assert table_of("rate,trial,kind\n0.1,1,a\n0.2,2,b\n", tmp_path).y.tolist() == ["a", "b"]  # nothing else could be
    assert table_of("0.1,1,3\n0.2,2,4\n", tmp_path).y.tolist() == [3, 4]  # without heads there is no choice


def test_pictures_that_are_not_read_are_counted(tmp_path):
    for kind, ending in (("ape", "png"), ("ape", "tif"), ("bee", "PNG"), ("bee", "bmp"), ("bee", "BMP")):
        (tmp_path / kind).mkdir(exist_ok=True)
        file = tmp_path / kind / f"{len(list((tmp_path / kind).iterdir()))}.{ending}"
        Image.new("L", (4, 4), len(ending)).save(file)
    (tmp_path / "bee/notes.txt").write_text("no picture")
    with pytest.warns(UserWarning, match=r"3 pictures in .* are left out, \.bmp, \.tif: PNG and JPEG are read"):
        assert len(data.Split.from_folder(tmp_path)) == 2


def test_tables_of_tabs_are_found_by_their_name(tmp_path):
    rows = "a\tb\tlabel\n1,5\t2\tx\n2,5\t9\ty\n"
    for part in ("train", "test"):
        (tmp_path / f"{part}.tsv").write_text(rows)
    train, test = data.load(str(tmp_path))
    assert torch.equal(train.x, test.x)
    torch.testing.assert_close(train.columns.scaled(torch.tensor([[1.5, 2.0], [2.5, 9.0]])), train.x)
    (tmp_path / "many.tsv").write_text(rows + "".join(f"{k},5\t{k}\t{'xy'[k % 2]}\n" for k in range(20)))
    assert data.load(str(tmp_path / "many.tsv"))[0].names == ("x", "y")


def test_parts_of_a_split_are_in_random_order_from_end_to_end():
    """Ten labels at either end are as many different ones as ten random labels are, in the mean over seeds."""
    split = Split(torch.rand(1000, 2), torch.arange(1000) % 10, 10)
    want = 10 * (1 - 0.9**10)  # 6.51, with a standard deviation of about 1 for one of them
    for part in (
        lambda seed: hold_out(split, 0.2, seed)[0],
        lambda seed: hold_out(split, 0.2, seed)[1],
        lambda seed: subset(split, 150, seed),
    ):
        for end in (slice(10), slice(-10, None)):
            found = [len(part(seed).y[end].unique()) for seed in range(200)]
            assert sum(found) / 200 == pytest.approx(want, abs=0.3)
