"""`neuropil play`: one file that asks for nothing, as fine as it may be, and what is refused."""

import gzip
import json
import re
from base64 import b64decode
from pathlib import Path

import pytest
import torch

import neuropil as npl
from neuropil import play
from neuropil.associative import AssociativeNetwork, AssociativeTraining
from neuropil.cli import main
from neuropil.data import Split
from neuropil.errors import Refusal
from neuropil.models.packing import pack, unpack

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def inside(page, name):
    """The text of a block of data of a page."""
    return re.search(rf'<script type="[\w/]+" id="{name}">(.*?)</script>', page, re.DOTALL)[1]


def test_a_page_is_one_small_file_with_the_network_in_it(capsys):
    assert main(["play", "digits-mstdp"]) == 0
    page = Path("digits-mstdp-play.html").read_text(encoding="utf-8")
    assert "0.12 MB, weights in int8" in capsys.readouterr().out
    assert "98.05 % of 359 test images" in page
    assert not re.findall(r"https?:|//[a-z]+\.|\b(?:src|href)=\"(?!data:,)|@import|url\(", page)
    assert b64decode(inside(page, "weights"))[4:8] == bytes(4)  # no time: one network makes one page
    Path("again.safetensors").write_bytes(gzip.decompress(b64decode(inside(page, "weights"))))
    again, network = npl.load("again.safetensors"), npl.load("digits-mstdp")
    x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again.decision_function(x), network.decision_function(x), rtol=0, atol=1e-5)
    facts = json.loads(inside(page, "facts"))
    assert [one["label"] for one in facts["examples"]] == list(range(10))
    shown = [torch.frombuffer(bytearray(b64decode(one["pixels"])), dtype=torch.uint8) for one in facts["examples"]]
    read = network.predict((torch.stack(shown) / 255).view(-1, 1, 8, 8)) == torch.arange(10)
    assert read.sum() >= 9


def test_what_cannot_be_played_with_is_refused_in_one_line(capsys):
    for words, message in {
        "mnist-krotov-2000": "mnist-krotov-2000 holds no network that generates images; take digits-mstdp.",
        "digits-mstdp --out page.txt": "a page is a .html file, got 'page.txt'; try --out page.html",
        "digits-mstpd": "neuropil zoo lists networks by name",
    }.items():
        assert main(["play", *words.split()]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not list(Path().iterdir())


def network_for(shape, units=4):
    """A network that learned a little of noise."""
    x = torch.rand(12, *shape, generator=torch.Generator().manual_seed(0))
    training = AssociativeTraining(epochs=1, batch=12)
    return AssociativeNetwork((units,), training=training).fit(
        Split(x, torch.arange(12) % 3, classes=3), rng=torch.Generator().manual_seed(1)
    )


def test_images_in_colour_are_refused_and_data_without_a_layout_come_as_they_are():
    with pytest.raises(Refusal, match=r"a page needs a network for grey images, .* got \(3, 4, 4\)"):
        play.render(network_for((3, 4, 4)), {})
    page, _ = play.render(network_for((1, 4, 6)), {"data": "</script><b>"})
    assert json.loads(inside(page, "facts"))["layout"]["fit"] == "none"
    assert "<b>" not in page
    names = ("<b>", "b", "c")
    test = Split(torch.rand(3, 1, 4, 6), torch.tensor([0, 2, 2]), 3, names)
    facts = json.loads(inside(play.render(network_for((1, 4, 6)), {}, test)[0], "facts"))
    assert facts["classes"] == [*names]
    assert [one["label"] for one in facts["examples"]] == [0, 2]


def test_large_networks_get_coarser_weights():
    network, asked = network_for((1, 8, 8), 100), (10**9, 12_400, 11_600, 1_000)
    assert [play.render(network, {}, largest=play.REST + size)[1] for size in asked] == ["int8", "int7", "int6", "int6"]
    x = torch.rand(300, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    page, _ = play.render(network, {}, Split(x, network.predict(x), 3), largest=1)
    Path("coarse.safetensors").write_bytes(gzip.decompress(b64decode(inside(page, "weights"))))
    right = (npl.load("coarse.safetensors").predict(x) == network.predict(x)).double().mean().item()
    assert right < 1
    assert f"{100 * right:.2f} % of 300 test images" in page  # what the page holds, not what it was made from


@pytest.mark.parametrize(("precision", "most"), [("int8", 127), ("int7", 63), ("int6", 31)])
def test_coarse_weights_are_off_by_half_a_step(precision, most):
    weight = torch.randn(5, 40, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    packed, types = pack({"w": weight}, precision)
    assert packed["w"].abs().amax(1).tolist() == [most] * 5
    off = (unpack(packed, types)["w"] - weight).abs().amax(1)
    assert (off <= weight.abs().amax(1) / most / 2 * 1.0001).all()
    assert (off > weight.abs().amax(1) / most / 3).all()


def test_the_page_in_the_documents_has_the_script_of_today():
    page = (ROOT / "docs/play.html").read_text(encoding="utf-8")
    assert len(page.encode()) < play.LARGEST
    for file in (*play.SCRIPTS, "play.css"):
        assert (play.HERE / file).read_text(encoding="utf-8") in page, "make it again: see docs/associative.md"
