"""The zoo: every network comes back and classifies as its card says; rounded weights; what is missing can be made."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import neuropil as npl
from cli_place import place
from neuropil import zoo
from neuropil.cli import main
from neuropil.cli.commands.zoo import make
from neuropil.cli.job import Job
from neuropil.data import load
from neuropil.errors import Refusal
from neuropil.models import SpikingClassifier
from neuropil.models.packing import SCALE, pack, unpack

__all__ = ["place"]
pytestmark = pytest.mark.filterwarnings("ignore:.*samples had not settled")
FOLDER = Path(zoo.__file__).parent
SHIPPED = sorted(file.stem for file in FOLDER.glob("*.safetensors"))
ALL = npl.list_models(missing=True)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_network_classifies_as_its_card_says(name):
    card, (header,) = zoo.card(name), npl.saved_models(name)
    try:
        test = load(card.data, seed=header.about["seed"])[1]
    except Refusal as refusal:
        pytest.skip(str(refusal))
    some = test[: card.of]
    correct = int((npl.load(name).predict(some.pixels()) == some.y).sum())
    assert abs(correct - card.correct) <= 2  # of another machine, whose sums end in other digits
    assert 100 * card.correct / card.of == pytest.approx(float(card.shipped.split()[0]), abs=3)


def test_the_zoo_is_small_and_every_card_is_filled_in():
    assert len(SHIPPED) >= 8
    assert sum(file.stat().st_size for file in FOLDER.iterdir() if file.is_file()) < 3e6
    assert set(SHIPPED) <= set(npl.list_models()) <= set(ALL)
    for card in map(zoo.card, ALL):
        assert "(n = " in card.measured
        assert card.licence
        assert bool(card.commit and card.shipped) == (card.name in SHIPPED)
        job = Job.of(card.command)  # a recipe with such settings
        assert len(job.config.learners) == 1
        assert job.options.out is None
        assert card.command == shlex.join(shlex.split(card.command))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounded_weights_are_off_by_half_a_step(dtype):
    rng = torch.Generator().manual_seed(3)
    weight = (torch.randn(7, 5, 3, generator=rng, dtype=torch.float64) * torch.logspace(-3, 2, 7)[:, None, None]).to(
        dtype
    )
    weight[4] = 0
    tensors = {"weight": weight, "bias": weight[:, 0, 0], "count": torch.tensor(3)}
    packed, types = pack(tensors, "int8")
    assert packed["weight"].dtype == torch.int8
    assert types == {"weight": str(dtype).removeprefix("torch.")}
    back = unpack(packed, types)
    assert back.keys() == tensors.keys()
    assert all(value.dtype == tensors[name].dtype for name, value in back.items())
    assert torch.equal(back["bias"], tensors["bias"])
    for row, other in zip(weight.double().numpy(), back["weight"].double().numpy()):
        assert np.abs(row - other).max() <= np.abs(row).max() / 254 * 1.0001
    half, types = pack(tensors, "float16")
    want = weight.numpy().astype(np.float16).astype(weight.numpy().dtype)
    np.testing.assert_array_equal(unpack(half, types)["weight"].numpy(), want)
    assert SCALE not in "".join(half)


def test_in_int4_two_weights_share_a_byte_but_in_small_tensors_and_odd_rows():
    shapes = {"large": (5, 3, 6000), "odd": (5, 3, 6001), "small": (5, 3, 6)}
    tensors = {name: torch.randn(shape, generator=torch.Generator().manual_seed(2)) for name, shape in shapes.items()}
    tensors["large"][1] = 0
    packed, types = pack(tensors, "int4")
    assert packed["large"].shape == (5, 3, 3000)
    assert [packed[name].dtype for name in shapes] == [torch.uint8, torch.int8, torch.int8]
    back = unpack(packed, types)
    for name, steps in ("large", 7), ("odd", 127), ("small", 127):
        for row, other in zip(tensors[name].double().numpy(), back[name].double().numpy()):
            whole = np.rint(row / (np.abs(row).max() or 1) * steps)
            np.testing.assert_allclose(other, whole * np.abs(row).max() / steps, rtol=1e-5, atol=1e-7)


def test_weights_that_cannot_be_rounded_are_refused():
    with pytest.raises(Refusal, match="unknown precision 'int5'"):
        pack({}, "int5")
    for wrong in (1e6, float("nan")):
        with pytest.raises(Refusal, match=r"int8 holds weights up to 65504, got .* in 'w'; leave precision out"):
            pack({"w": torch.full((2, 2), wrong)}, "int8")


def test_a_rounded_model_is_a_quarter_and_says_what_it_said(tmp_path):
    model = npl.load("yin-yang-qif")
    assert isinstance(model, SpikingClassifier)
    x = load("yin_yang")[1].x[:200]
    plain = model.save(tmp_path / "plain.safetensors")
    small = model.save(tmp_path / "small.safetensors", precision="int8")
    same = model.save(tmp_path / "same.safetensors", precision="float16")  # its weights were float16 before
    assert torch.equal(npl.load(same).decision_function(x), npl.load(plain).decision_function(x))
    assert small.stat().st_size < plain.stat().st_size
    assert (npl.load(small).predict(x) == model.predict(x)).double().mean() > 0.97


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_stands_wherever_a_run_does(elsewhere, capsys):
    assert main(["generate", "digits-mstdp", "--n", "2", "--n-rounds", "3"]) == 0
    network, labels = npl.load("digits-mstdp"), torch.arange(10)
    sampling = replace(network.sampling, n_rounds=3)
    images = network.generate(labels, 2, torch.Generator().manual_seed(0), sampling=sampling).images
    right = sum(network.predict(images[2 * k : 2 * k + 2]).eq(k).sum().item() for k in range(10))
    assert f"classifies {right} of 20 images as requested" in capsys.readouterr().out
    assert main(["complete", "digits-mstdp", "--n", "2", "--n-rounds", "3"]) == 0
    names = {file.name for file in elsewhere.iterdir()}
    assert names == {"digits-mstdp-samples.png", "digits-mstdp-completed.png"}
    sheets = {file: file.read_bytes() for file in elsewhere.iterdir()}
    for change in ("--n-rounds 2 --seed 0", "--n-rounds 3 --seed 1", "--n-rounds 3 --seed 0"):
        for verb, name in (("generate", "samples"), ("complete", "completed")):
            assert main([verb, "digits-mstdp", "--n", "2", *change.split()]) == 0
            file = elsewhere / f"digits-mstdp-{name}.png"
            assert (file.read_bytes() == sheets[file]) == (change == "--n-rounds 3 --seed 0"), (verb, change)
    words = "--linf 0.1 --l2 1 --n-test 20 --attack-steps 2 --attack-restarts 1 --attack-queries 11 --out attacked"
    assert main(["attack", "digits-mstdp", *words.split()]) == 0
    assert "98.05" in capsys.readouterr().out


def test_what_is_there_and_what_is_not(elsewhere, capsys, monkeypatch):
    monkeypatch.setenv("NEUROPIL_DATA", str(elsewhere))
    assert main(["zoo"]) == 0
    assert main(["zoo", "digits-mstdp"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ALL)
    assert "neuropil run digits_mstdp --learners mstdp --seed 5" in said
    for words, message in {
        ("zoo", "digits"): "unknown network of the zoo 'digits'",
        ("zoo", "--make"): "--make needs the name",
        ("zoo", "digits-mstdp", "--out", "x"): "--out FILE goes with --make",
        ("generate", "mnist-mstdp-2000"): "make it with: neuropil zoo mnist-mstdp-2000 --make (about 6 minutes",
        ("generate", "digits-mstpd"): "neuropil zoo lists networks by name",
        ("generate", "mnist-krotov-2000"): "holds no network that generates images",
    }.items():
        assert main(list(words)) == 2
        assert message in capsys.readouterr().err


def test_a_larger_one_is_made_by_its_command(place, tmp_path):
    tiny = "--epochs 1 --n-train 60 --classification-units 5 --generation-units 4 --completion-units 0 --n-samples 2"
    card = zoo.Card("tiny", "", f"neuropil run digits_mstdp --learners mstdp {tiny}", 0.1, "digits", "", "", "float16")
    assert make(card, tmp_path / "tiny.safetensors") == 0
    assert make(card, tmp_path / "tiny.safetensors") == 0  # its run was finished
    model = npl.load(tmp_path / "tiny.safetensors")
    assert model.predict(load("digits")[1].x[:3]).shape == (3,)
    assert npl.saved_models(tmp_path / "tiny.safetensors")[0].about["zoo"] == "tiny"
    kinds = {one.dtype for one in load_file(tmp_path / "tiny.safetensors").values()}
    assert torch.float16 in kinds  # as its card says
    assert torch.int8 not in kinds
