"""Models in plain PyTorch and ONNX give the same scores where neuropil is not; features of layers; rasters."""

import json
import math
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import neuropil as npl
from common import first_digits
from neuropil.cli import main
from neuropil.distributed.pipeline import _check_row as check_row
from neuropil.errors import Refusal
from neuropil.exchange import export, extract_features, networks, to_onnx, to_pt2, to_torch
from neuropil.models import Beside, ContrastLatency, FirstSpikeConv2d, MirrorMean
from neuropil.spiking import from_raster, to_raster
from report_runs import make, result
from test_saving import HEAD, MODELS, rng

FLAT = ("hebbian features", "whitened patches", "deep", "masked", "linear", "association", "plain association")
SHAPE = (1, 8, 8)


train = first_digits(200)


@pytest.fixture(scope="module")
def fitted(train):
    return {name: MODELS[name](train).fit(train, rng=rng()) for name in FLAT}


@pytest.mark.parametrize("name", FLAT)
def test_plain_torch_gives_the_same_scores_and_gradients(name, fitted, train):
    model, x = fitted[name], train.x[:7].clone().requires_grad_()
    network = to_torch(model, SHAPE)
    assert type(network) is nn.Sequential
    assert all(type(layer).__module__.startswith(("torch.", "abc")) for layer in network.modules())
    torch.testing.assert_close(network(x), model.forward(x), rtol=1e-5, atol=1e-5)
    mine, theirs = (torch.autograd.grad(f(x).square().sum(), x)[0] for f in (network, model.forward))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4, equal_nan=True)
    first = next(network.parameters())
    first.data.zero_()
    assert next(model.network_.parameters()).any()  # it is a copy


BLOCKED = """
import sys
sys.modules["neuropil"] = None
import torch
from safetensors.torch import load_file
for file in sys.argv[1:]:
    kept = load_file(file + ".data")
    found = torch.export.load(file).module()(kept["x"])
    assert (found - kept["scores"]).abs().max() <= 1e-5, file
"""


def test_exported_programs_run_where_neuropil_is_not(fitted, train, tmp_path):
    files = []
    for name in ("whitened patches", "association"):
        files.append(str(tmp_path / f"{len(files)}.pt2"))
        torch.export.save(export(fitted[name], SHAPE), files[-1])
        kept = {"x": train.x[:5], "scores": fitted[name].decision_function(train.x[:5])}
        save_file(kept, files[-1] + ".data")
    done = subprocess.run([sys.executable, "-c", BLOCKED, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["whitened patches", "deep", "masked", "association"])
def test_onnx_agrees_with_torch(name, fitted, train, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = to_onnx(fitted[name], SHAPE, tmp_path / "model.onnx")
    (found,) = runtime.InferenceSession(file).run(None, {"images": train.x[:9].numpy()})
    np.testing.assert_allclose(found, fitted[name].forward(train.x[:9]).numpy(), rtol=1e-5, atol=1e-5)


ABC = tuple("abcdefghij")


def test_the_names_of_the_classes_are_in_the_file(train, tmp_path):
    named = npl.Split(train.x, train.y, 10, ABC)
    model = npl.load(MODELS["linear"](train).fit(named, rng=rng()).save(tmp_path / "named.safetensors"))
    assert model.names_ == ABC
    extra = {"classes.json": ""}
    torch.export.load(to_pt2(model, SHAPE, tmp_path / "named.pt2"), extra_files=extra)
    assert json.loads(extra["classes.json"]) == [*ABC]


def test_onnx_has_the_names_of_the_classes(train, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = MODELS["linear"](train).fit(npl.Split(train.x, train.y, 10, ABC), rng=rng())
    told = runtime.InferenceSession(to_onnx(model, SHAPE, tmp_path / "named.onnx")).get_modelmeta().custom_metadata_map
    assert json.loads(told["classes"]) == [*ABC]


def test_the_command_writes_what_it_can_read(tmp_path, capsys):
    file = tmp_path / "kernels.pt2"
    words = ["export", "mnist-conv-krotov-100", "--to", "torch", "--out"]
    assert main([*words, str(file)]) == 0
    assert "images (n, 1, 28, 28) to scores, off by" in capsys.readouterr().out
    x = torch.rand(2, 1, 28, 28, generator=rng())
    found = torch.export.load(file).module()(x)
    torch.testing.assert_close(found, npl.load("mnist-conv-krotov-100").forward(x), rtol=1e-5, atol=1e-5)
    for more, message in {
        (str(tmp_path / "x.onnx"),): r"into a .pt2 file, got 'x.onnx'",
        (str(file), "--shape", "3", "9"): "this FeatureClassifier takes no examples of shape (3, 9)",
        (str(file), "--learner", "linaer"): "unknown model 'linaer'",
    }.items():
        assert main([*words, *more]) == 2
        assert message in capsys.readouterr().err
    assert main(["export", "digits-mstdp", "--to", "torch", "--out", str(file)]) == 2
    assert "AssociativeNetwork has no form in plain PyTorch" in capsys.readouterr().err


def test_a_file_that_gives_other_scores_is_refused(fitted, tmp_path, capsys, monkeypatch):
    file = fitted["linear"].save(tmp_path / "m.safetensors")
    monkeypatch.setattr("neuropil.cli.commands.export.read", lambda file, x: fitted["linear"].forward(x) + 0.5)
    assert main(["export", str(file), "--to", "torch", "--shape", "1", "8", "8", "--out", str(tmp_path / "m.pt2")]) == 2
    assert "gives other scores than the model, off by 5.0e-01; do not use it" in capsys.readouterr().err


def test_the_seed_that_is_asked_for_is_exported(fitted, tmp_path, capsys):
    models = fitted["linear"], deepcopy(fitted["linear"])
    models[1].network_.get_parameter("readout.linear.weight").neg_()
    for seed, model in enumerate(models):
        run = make(tmp_path / f"seed-{seed}", [result(seed=seed)])
        about = {"name": "linear", "seed": seed, "place": 0, "shape": SHAPE}
        model.save(run / "models" / f"linear-seed{seed}.safetensors", about=about)
    file, x = tmp_path / "linear.pt2", torch.rand(2, *SHAPE, generator=rng())
    assert main(["export", str(tmp_path), "--to", "torch", "--out", str(file), "--seed", "1"]) == 0
    torch.testing.assert_close(torch.export.load(file).module()(x), models[1].forward(x))
    assert main(["export", str(tmp_path), "--to", "torch", "--out", str(file)]) == 2
    assert "holds 2 models; name one, for example --learner 'linear' --seed 0" in capsys.readouterr().err
    models[0].save(run / "models" / "linear-3-or-8-seed1.safetensors", about={**about, "place": 1})  # of another task
    assert main(["export", str(tmp_path), "--to", "torch", "--out", str(file), "--seed", "1"]) == 2
    assert "holds 2 models; name one, for example --learner 'linear' --seed 1" in capsys.readouterr().err


def test_a_layer_of_ones_own_takes_any_number_of_examples():
    class Halves(nn.Module):
        def forward(self, x):
            return x.reshape(x.shape[0], 2, -1).mean(1)

    x = torch.rand(5, 8)
    plain, _ = networks._plain(Halves(), x[:3])
    torch.testing.assert_close(plain(x), (x[:, :4] + x[:, 4:]) / 2)


def two(*sides):
    stages = [
        {"conv": nn.Conv2d(1, 4, side), "act": npl.Triangle(0.7), "pool": nn.AdaptiveAvgPool2d(2)} for side in sides
    ]
    return [npl.stacked(stage) for stage in stages]


BODIES = {
    "mirror images": lambda: MirrorMean(*two(3)),
    "side by side": lambda: Beside(*two(3, 5)),
    "both, in a row": lambda: nn.Sequential(MirrorMean(*two(3, 5)), nn.Linear(32, 7)),
}


@pytest.mark.parametrize("name", BODIES)
def test_networks_that_are_no_row_are_exported_as_they_are(name, train):
    """They are sequences of torch by class, whose pass is another one."""
    model = npl.FeatureClassifier(BODIES[name](), readout=HEAD).fit(train, rng=rng())
    network, program = to_torch(model, SHAPE), export(model, SHAPE).module()
    for count in (1, 2, 23):
        x = torch.rand(count, *SHAPE, generator=rng())
        for one in (network, program):
            torch.testing.assert_close(one(x), model.forward(x), rtol=1e-5, atol=1e-5)


def test_stages_are_made_of_blocks_that_pass_on_what_the_one_below_made():
    x, made = torch.rand(4, 1, 6, 6), [nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 3)]
    check_row(nn.Sequential(*made), x)
    check_row(npl.stacked({"conv": made[0], "act": npl.Triangle(1.0)}), (x, torch.zeros(4)))
    for one in (Beside(nn.Flatten(), nn.Flatten()), MirrorMean(nn.Flatten()), Beside(*made)):
        with pytest.raises(Refusal, match=r"blocks that pass on what the one below made, but a (Beside|Mirror)"):
            check_row(one, x)


@pytest.mark.parametrize("kind", ["hard WTA", "linear"])
def test_a_model_of_a_table_knows_how_its_rows_were_standardised(kind, tmp_path):
    rows = torch.randn(90, 5, generator=rng()) * torch.tensor([1.0, 20.0, 0.03, 400.0, 7.0]) - 11
    labels = [("ape", "bee", "cat")[k] for k in (rows[:, 1] > -10).int() + (rows[:, 3] > 0).int()]
    table = [["a", "b", "c", "d", "e", "label"], *([*row, name] for row, name in zip(rows.tolist(), labels))]
    (tmp_path / "table.csv").write_text("\n".join(",".join(map(str, row)) for row in table))
    train, _ = npl.load_data(str(tmp_path / "table.csv"))
    assert train.x.mean(0).abs().max() < 1e-5
    body = npl.dense_body(train, 20, n=2.0) if kind == "hard WTA" else nn.Sequential(nn.Flatten())
    model = npl.load(npl.FeatureClassifier(body, readout=HEAD).fit(train, rng=rng()).save(tmp_path / "m.safetensors"))
    want = model.decision_function(model.columns_.scaled(rows))
    assert len(set(model.predict(model.columns_.scaled(rows)).tolist())) > 1
    torch.testing.assert_close(to_torch(model, (5,), raw=True)(rows), want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(to_torch(model, (5,))(train.x), model.forward(train.x), rtol=1e-5, atol=1e-5)
    assert (
        main(
            [
                "export",
                str(tmp_path / "m.safetensors"),
                "--to",
                "torch",
                "--shape",
                "5",
                "--out",
                str(tmp_path / "n/m.pt2"),
            ]
        )
        == 0
    )
    torch.testing.assert_close(torch.export.load(tmp_path / "n/m.pt2").module()(rows), want, rtol=1e-4, atol=1e-5)
    with pytest.raises(Refusal, match=r"the table has 5 columns, got rows of shape \(2, 4\)"):
        model.columns_.scaled(rows[:2, :4])


def test_models_without_layers_in_a_row_are_refused(train):
    for model in (npl.load("digits-mstdp"), npl.load("yin-yang-qif")):
        with pytest.raises(Refusal, match=r"has no form in plain PyTorch: its activity settles or spikes"):
            to_torch(model, (4,))
    with pytest.raises(Refusal, match="is not fitted"):
        to_torch(npl.AssociationClassifier(), (4,))
    body = nn.Sequential(ContrastLatency(), FirstSpikeConv2d(2, 5, 3, threshold=1.0))
    model = npl.FeatureClassifier(body, readout=HEAD).fit(train, rng=rng())
    with pytest.raises(Refusal, match="a FirstSpikeConv2d has no form in plain PyTorch"):
        to_torch(model, SHAPE)


def test_features_are_those_of_the_layer(fitted, train):
    model, x = fitted["deep"], train.x[:25]
    names = [layer.name for layer in model.feature_layers()]
    for layer in model.feature_layers():
        found = extract_features(model, x, layer.name, batch=10)
        torch.testing.assert_close(found, layer.module(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(extract_features(model, x), extract_features(model, x, names[-1]))
    stored = (x * 255).to(torch.uint8)
    assert torch.equal(extract_features(model, stored), extract_features(model, stored / 255))
    with pytest.raises(Refusal, match=r"unknown layer 'conv9'\. Did you mean"):
        extract_features(model, x, "conv9")
    with pytest.raises(Refusal, match="has no layer below its readout"):
        extract_features(fitted["linear"], x)


def test_rasters_count_the_spikes_of_every_step():
    draw = np.random.default_rng(5)
    dt, t_end, batch, neurons = 0.013, 0.4, 3, 6
    times = np.sort(draw.uniform(0, t_end, (batch, neurons, 4)), -1)
    times[draw.random(times.shape) < 0.3] = math.inf
    times = torch.from_numpy(np.sort(times, -1))
    times[0, 0, 0], times[0, 0, 1:] = t_end, math.inf  # right at the end
    steps = math.ceil(t_end / dt)
    want = np.zeros((steps, batch, neurons))
    for b, j, s in np.ndindex(*times.shape):
        t = times[b, j, s].item()
        if t < math.inf:
            want[min(int(t // dt), steps - 1), b, j] += 1
    raster = to_raster(times, dt, t_end)
    for end in (0.4, 0.7):  # a spike right at the end is in the last step, whether float32 rounds it up or down
        assert to_raster(torch.tensor([[end]]), end / 8, end).flatten().tolist() == [0.0] * 7 + [1.0]
    assert len(to_raster(torch.tensor([[0.1]]), 0.7, 2.1)) == 3  # 2.1 / 0.7 is rounded to more than 3
    np.testing.assert_array_equal(raster.numpy(), want)
    back = from_raster(raster, dt)
    torch.testing.assert_close(to_raster(back, dt, steps * dt), raster)
    both = times.isfinite()
    assert (back[..., : times.shape[2]].isfinite() == both[..., : back.shape[2]]).all()
    late = times[1:][both[1:]] - back[1:][both[1:, :, : back.shape[2]]]
    assert late.abs().max() <= dt / 2 * (1 + 1e-9)


def test_rasters_that_are_none_are_refused():
    assert from_raster(torch.zeros(5, 2, 3, dtype=torch.bool), 0.1).isinf().all()
    assert from_raster(torch.ones(4, 1, 2, dtype=torch.bool), 0.5).tolist() == [[[0.25, 0.75, 1.25, 1.75]] * 2]
    with pytest.raises(Refusal, match=r"a raster is \(steps, batch, neurons\), got \(2, 3\)"):
        from_raster(torch.zeros(2, 3), 0.1)
    for wrong in (0.5, -1.0, math.nan, math.inf):
        with pytest.raises(Refusal, match="0 or more in a step"):
            from_raster(torch.full((1, 1, 1), wrong), 0.1)
    with pytest.raises(Refusal, match=r"a step dt > 0 and an end t_end > 0, got dt=0"):
        to_raster(torch.zeros(1, 1), 0, 1.0)
    with pytest.raises(Refusal, match="a time after the end"):
        to_raster(torch.ones(1, 1), 0.1, 0.5)
