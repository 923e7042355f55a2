"""Every recipe at tiny size through the real command line, on real images; and stopped in the middle, then resumed."""

import json
import os
import re
from pathlib import Path

import pytest
import torch

from neuropil.cli import main
from neuropil.cli.recipes import recipe_names, resolve, source
from neuropil.cli.settings import parse
from neuropil.data import Split, digits, load
from neuropil.experiments import own_data as _baselines
from neuropil.experiments.methods import method_names
from neuropil.experiments.spikes import log_rasters
from neuropil.models import SpikeTimeTraining, SpikingClassifier, SupervisedTraining
from neuropil.runs import Run, TaggedTracker, load_recipe_file, read

STEPS = " --readout-min-steps 20 --backprop-min-steps 20"
KROTOV = "--units 30 --n-train 300 --epochs 2 --batch 50 --readout-epochs 3 --backprop-epochs 2 --labels 50" + STEPS
CONV = "--kernels 20 --kernel 3 --n-train 300 --patch-fraction 0.5 --readout-epochs 3 --backprop-epochs 2 --labels 50"
CONV += STEPS
FEEBLE = "--n-test 40 --linf 0.1 --l2 1 --attack-steps 3 --attack-restarts 1 --attack-queries 11"  # attacks
QUICK = "--epochs 8 --plain-epochs 12 --backprop-epochs 4 --backprop-batch 50 --readout-epochs 3 --batch 50"
NETS = "--hidden 120 60 --columns 4 1 --receptive-field 5"
COMPARES = (
    "compare",
    "fashion_krotov",
    "mnist_conv_krotov",
    "mnist_softhebb",
    "mnist_association",
    "diehl_cook",
    "stdp_conv",
    "cifar_wide",
    "spiking_associative",
)
SPIKING = ("mnist_theta", "mnist_theta_best")
SETTINGS = ("krotov_settings", "linear_settings")
PAIRS = ("mnist_pairs", "iris_association")
TINY = {
    "compare": "--data digits --seeds 1 --units 20 --n-train 150 --labels 1000 "
    "--learners soft_hebb exact_spikes backprop random_features linear",
    "fashion_krotov": KROTOV,
    "mnist_conv_krotov": CONV + " --neighbours 10",
    "krotov_settings": "--experiment fashion_krotov --width 20 --n-train 400 --changes 2 --label-fraction 0.1",
    "linear_settings": "--data digits --n-train 300 --steps-factor 0.04",
    "mnist_association": f"{QUICK} {NETS} --n-train 400",
    "mnist_pairs": f"{QUICK} {NETS} --n-train 100",
    "iris_association": f"{QUICK} --min-steps 40",
    "mnist_theta": "--hidden 20 --n-train 300 --epochs 3 --batch 100",
    "mnist_theta_best": "--units 20 --n-train 300 --epochs 3 --batch 100",
}
WIDE = "--units 8 --kernel 3 --n-train 100 --patch-fraction 0.3 --labels 1000 --backprop-epochs 1"
TINY["cifar_wide"] = f"{WIDE} --backprop-min-steps 20 --learners signed_wta k_means random_features backprop linear"
TINY["diehl_cook"] = "--units 20 --n-train 200 --duration 0.05 --readout-epochs 3 --backprop-epochs 2" + STEPS
TINY["stdp_conv"] = "--kernels 8 10 --kernel 3 --thresholds 4 5 --patch-threshold 1.5 --n-images 150 150 --n-train 200"
TINY["stdp_conv"] += " --readout-epochs 3 --backprop-epochs 2 --learners stdp random_features backprop linear" + STEPS
TINY["spiking_associative"] = "--units 12 --n-train 100 --epochs 1 --free 0.1 --nudged 0.05 --control 0.05 --in-use 0.1"
TINY["spiking_associative"] += " --backprop-epochs 2 --backprop-min-steps 20"
SOFT = "--channels 4 6 8 --n-train 200 --n-augmented 1 --readout-epochs 3 --backprop-epochs 2 --labels 1000"
SOFT += STEPS
TINY["mnist_softhebb"] = SOFT
ELSEWHERE = {"concept", "recurrent", "single_neuron", "yin_yang"}  # tried in test_spiking_recipes.py
ELSEWHERE |= {"balanced", "pair_triplet", "reward_stdp"}  # there, too
ELSEWHERE |= {"attack", "continual"}  # tried in test_attack_command.py and test_continual.py
ELSEWHERE |= {"digits_mstdp", "mnist_complete", "momentum"}  # tried in test_associative_recipes.py
ELSEWHERE |= {"mnist_semi", "mnist_unsupervised"}  # there, too
ELSEWHERE |= {"lif_qif", "precision", "few_bits"}  # tried in test_lif_qif.py and test_precision.py
BASELINES = {"backprop", "random features", "linear"}
pytestmark = pytest.mark.usefixtures("blank")
QUICK = " ".join(str(Path(__file__).with_name("quick") / name) for name in ("krotov_hopfield.py", "backprop.py"))


def run(name, out, more=""):
    return main(["run", name, *TINY[name].split(), *more.split(), "--out", str(out)])


@pytest.fixture
def small(monkeypatch):
    """Digits of 8x8 in place of the data sets that are not on every machine."""
    monkeypatch.setattr(_baselines, "load", lambda name, seed=0: digits(seed=seed))


def test_every_recipe_is_tried_and_every_variant_has_settings_that_it_takes():
    bases = {resolve(name, [])[0] for name in recipe_names()}
    assert {resolve(name, [])[0] for name in TINY} | ELSEWHERE == bases
    assert sorted(TINY) == sorted((*COMPARES, *PAIRS, *SPIKING, *SETTINGS))  # none is listed without being run
    for name in recipe_names():
        base, words = resolve(name, [])
        (config,) = parse(words, load_recipe_file(source(name)).Config)
        assert bool(words) == (base != name) == (config != type(config)())


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", COMPARES)
def test_the_copy_of_a_recipe_runs_and_every_local_method_stands_beside_its_baselines(name, tmp_path, capsys):
    out, mine = tmp_path / "out", str(tmp_path / "mine.py")
    assert main(["copy", name, mine]) == 0
    _, words = resolve(name, TINY[name].split())
    assert main(["run", mine, *words, "--out", str(out)]) == 0
    record = read(out)
    assert record.finished
    rows = json.loads((out / "results.json").read_text())["rows"]
    families = {row["learner"]: row["family"] for row in rows}
    assert set(families.values()) == {"local", "baseline"} | ({"spiking"} if name == "compare" else set())
    assert {name for name, family in families.items() if family == "baseline"} >= BASELINES
    assert all(0.1 < row["accuracy"] <= 1 and row["seconds"] > 0 and row["peak_mb"] > 0 for row in rows)
    assert len({(row["learner"], row["seed"]) for row in rows}) == len(rows)
    of = {row.get("data") for row in record.rows if row["kind"] in ("images", "result")}
    assert of == set(record.facts["data"])
    page = (out / "report.html").read_text()
    assert all(learner in page for learner in families)
    assert "report.html" in capsys.readouterr().out


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_one_file_that_needs_no_other_recipe(name, tmp_path):
    mine = tmp_path / "mine.py"
    assert main(["copy", name, str(mine)]) == 0
    assert "neuropil.recipes." not in re.sub(r'"[^"]*"', "", mine.read_text())
    recipe = load_recipe_file(mine)
    assert callable(recipe.main)
    assert recipe.Config.__module__ == "recipe_mine"


@pytest.mark.parametrize("name", PAIRS)
def test_every_pair_of_classes_is_a_task_and_the_mean_is_the_result(name, tmp_path, monkeypatch, capsys):
    three = tuple(Split(part.x[part.y < 3], part.y[part.y < 3], 3) for part in digits(seed=0))
    monkeypatch.setattr(_baselines, "load", lambda name, seed=0: three if name == "mnist" else load(name, seed=seed))
    assert run(name, tmp_path / "out") == 0
    record = read(tmp_path / "out")
    results = {row["learner"]: row for row in record.rows if row["kind"] == "result"}
    assert set(results) >= {"association", "association, plain rule"} | BASELINES
    assert ("backprop, same fields" in results) == (name == "mnist_pairs")
    named = [row for row in record.rows if row["kind"] == "pair"]
    for learner, result in results.items():
        reached = {tuple(row["pair"]): row["accuracy"] for row in named if row["learner"] == learner}
        classes = {label for pair in reached for label in pair}
        assert len(reached) == len(classes) * (len(classes) - 1) / 2
        assert result["accuracy"] == pytest.approx(sum(reached.values()) / len(reached))
        assert result["seconds"] > 0
        assert result["n_train"] == (100 if name == "mnist_pairs" else 80)
        assert 0.5 <= result["majority_rate"] < 0.6
    assert results["association"]["accuracy"] > 0.6
    assert (tmp_path / "out" / "pictures" / "pairs.png").exists()
    attack = ["attack", str(tmp_path / "out"), *FEEBLE.split(), "--out", str(tmp_path / "attacked")]
    data = name.partition("_")[0]
    assert main([*attack, "--tasks", f"{data} 1 und 2"]) == 2
    assert f"Did you mean '{data} 1 or 2'" in capsys.readouterr().err
    assert main([*attack, "--tasks", f"{data} 1 or 2", f"{data} 0 or 2"]) == 0
    curves = {(row["data"], row["learner"]) for row in read(tmp_path / "attacked").rows if row["kind"] == "attack"}
    assert curves == {(f"{data} {pair}", learner) for pair in ("1 or 2", "0 or 2") for learner in results}


def test_only_the_pairs_that_are_named_are_run_and_a_misspelt_one_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(_baselines, "load", lambda name, seed=0: digits(seed=0))
    assert run("mnist_pairs", tmp_path / "out", "--pairs 49") == 2
    assert "unknown pair of classes '49'. Did you mean '4 9'?" in capsys.readouterr().err
    settings = [*TINY["mnist_pairs"].split(), "--pairs", "4 9", "3 5"]
    assert main(["run", "mnist_pairs", *settings, "--out", str(tmp_path / "two")]) == 0
    rows = [row for row in read(tmp_path / "two").rows if row["learner"] == "backprop"]
    assert [row["pair"] for row in rows if row["kind"] == "pair"] == [[3, 5], [4, 9]]
    (result,) = (row for row in rows if row["kind"] == "result")
    assert result["pairs"] == 2
    assert {path.name[:3] for path in (tmp_path / "two" / "models").iterdir()} == {"3-5", "4-9"}


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", SPIKING)
def test_spiking_networks_stand_beside_their_baselines_with_and_without_pseudospikes(name, tmp_path):
    assert run(name, tmp_path / "out") == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    (spikes,) = (row for row in read(tmp_path / "out").rows if row["kind"] == "spikes")
    assert 0 <= spikes["ordinary_accuracy"] <= rows[0]["accuracy"]
    assert spikes["silent_before"] > (0.9 if name == "mnist_theta" else 0.1)
    assert {"backprop", "linear"} <= {row["learner"] for row in rows}
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
    if name == "mnist_theta":
        assert main(f"attack {tmp_path / 'out'} {FEEBLE} --out {tmp_path / 'attacked'}".split()) == 0


@pytest.mark.usefixtures("small")
def test_the_choice_of_settings_scores_every_candidate_on_held_out_images(tmp_path, capsys):
    assert run("krotov_settings", tmp_path / "out") == 0
    rows = [row for row in read(tmp_path / "out").rows if row["kind"] == "validation"]
    changes = [{}, {"k": 2}, {}, {"backprop_init_std": 0.1}, {}, {"random_power": 2.0}]
    assert [row["change"] for row in rows] == changes
    assert all(0.5 < row["accuracy"] <= 1 for row in rows)
    assert capsys.readouterr().out.count("as chosen") == 3


@pytest.mark.usefixtures("small")
def test_kernels_are_scored_on_held_out_images_with_all_labels_and_with_few(tmp_path):
    words = "--experiment cifar_krotov --width 20 --n-train 400 --changes 2 --label-fraction 0.1"
    assert main(["run", "krotov_settings", *words.split(), "--out", str(tmp_path / "out")]) == 0
    rows = [row for row in read(tmp_path / "out").rows if row["kind"] == "validation"]
    methods = ["krotov_hopfield"] * 2 + ["backprop"] * 2 + ["random_patches", "k_means"] + ["random_features"] * 2
    assert [row["title"] for row in rows] == [*methods, "linear"]
    assert all(abs(row["accuracy"] * 67 - round(row["accuracy"] * 67)) < 1e-4 for row in rows)  # 67 images are held out
    assert all(0.2 < row["accuracy_33_labels"] <= row["accuracy"] <= 1 for row in rows)


def test_linear_candidates_are_scored_on_held_out_examples(tmp_path, capsys):
    assert run("linear_settings", tmp_path / "out") == 0
    rows = [row for row in read(tmp_path / "out").rows if row["kind"] == "validation"]
    assert len({(row["title"], *row["change"].values()) for row in rows}) == len(rows) > 10
    assert all(abs(row["accuracy"] * 50 - round(row["accuracy"] * 50)) < 1e-4 for row in rows)


@pytest.mark.usefixtures("small")
def test_one_learner_alone_has_kernels_with_fields_and_statistics(tmp_path):
    assert run("mnist_conv_krotov", tmp_path / "out", "--learners krotov_hopfield") == 0
    record = read(tmp_path / "out")
    (result,) = (row for row in record.rows if row["kind"] == "result")
    (units,) = (row for row in record.rows if row["kind"] == "units")
    assert result["learner"] == units["learner"] == "Krotov-Hopfield"
    assert units["layer"] == "conv1"
    assert len(units["wins"]) == len(units["norms"]) == 20
    assert 300 * 20 < sum(units["wins"]) <= 300 * 36
    assert record.tensors()["fields.Krotov-Hopfield"].shape == (20, 1, 3, 3)


@pytest.mark.usefixtures("small")
def test_a_learner_that_a_convolutional_recipe_does_not_have_is_refused(tmp_path, capsys):
    assert run("mnist_conv_krotov", tmp_path / "out", "--learners bakprop") == 2
    assert "Did you mean 'backprop'?" in capsys.readouterr().err


def test_compare_has_one_row_per_learner_data_set_and_seed(tmp_path):
    out = tmp_path / "out"
    words = f"compare --data digits --units 20 --n-train 150 --labels 20 1000 --learners {QUICK}"
    assert main(f"{words} --seed 3 --seeds 2 --out {out}".split()) == 0
    rows = json.loads((out / "results.json").read_text())["rows"]
    found = [(row["learner"], row["data"], row["seed"], row["n_train"]) for row in rows]
    assert sorted(found) == [(name, "digits", seed, 150) for name in ("Krotov-Hopfield", "backprop") for seed in (3, 4)]
    labels = [row for row in read(out).rows if row["kind"] == "labels" and row["seed"] == 3]
    assert sorted((row["learner"], row["n_labels"]) for row in labels) == [
        ("Krotov-Hopfield", 20),
        ("Krotov-Hopfield", 150),
        ("backprop", 20),
        ("backprop", 150),
    ]


def test_an_unknown_learner_is_refused_with_the_nearest_name(tmp_path, capsys):
    assert main(["compare", "--learners", "krotov_hopfeld", "--out", str(tmp_path / "out")]) == 2
    assert "Did you mean 'krotov_hopfield'?" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*had not settled")  # images made to confuse may do that to a network that settles
def test_every_method_learns_more_than_chance_and_is_attacked(tmp_path):
    out, attacked = tmp_path / "out", tmp_path / "attacked"
    assert main(f"compare --seeds 1 --units 40 --n-train 400 --labels 1000 --out {out}".split()) == 0
    assert main(f"attack {out} {FEEBLE} --out {attacked}".split()) == 0
    found, fields, rows = accuracies(out), read(out).tensors(), read(attacked).rows
    assert len(found) == len(method_names())
    assert accuracies(attacked) == found
    for name, accuracy in found.items():
        assert accuracy > 0.7, name
        assert f"fields.{name}" in fields
        kinds = {row["attack"] for row in rows if row["kind"] == "attack" and row["learner"] == name}
        assert kinds >= {"boundary", "noise", "all attacks"}, name


def accuracies(folder):
    return {row["learner"]: row["accuracy"] for row in read(folder).rows if row["kind"] == "result"}


def test_the_trial_and_the_way_of_a_spiking_network_are_its_own(tmp_path):
    train, tracker = (
        digits(seed=0)[0][:200],
        TaggedTracker(Run.start(tmp_path / "run", recipe="r", config={}, command="c"), learner="a"),
    )
    learner = SpikingClassifier((20,), training=SpikeTimeTraining(epochs=10, batch=50, lr=1e-2))
    learner.fit(train, rng=torch.Generator().manual_seed(0))
    log_rasters(learner, train, tracker)
    tracker.run.close()
    trial, way = ({row["kind"]: row for row in read(tmp_path / "run").rows}[kind] for kind in ("raster", "silence"))
    example = train[int((learner.predict(train.pixels()) == train.y).nonzero()[0])]
    assert trial["label"] == way["label"] == int(example.y)
    counts = [counts[0].tolist() for counts in learner.activity(example.pixels())]
    for layer, want in zip(trial["layers"][1:], counts):
        assert [sum(time <= 2.0 for time in neuron) for neuron in layer["times"]] == want
        assert [len(neuron) for neuron in layer["times"]] == [max(1, count) for count in want]
    assert [(layer["name"], len(layer["times"])) for layer in trial["layers"]] == [
        ("input", 64), ("hidden", 20), ("output", 10),
    ]  # fmt: skip
    first = [neuron[0] for neuron in trial["layers"][-1]["times"]]
    assert first == pytest.approx(way["times"][-1], abs=1e-5)
    assert first == pytest.approx((-learner.decision_function(example.pixels())[0]).tolist(), abs=1e-5)
    assert way["spikes"][0] == 0  # silent at first, with a gradient
    assert way["spikes"][-1] == sum(map(sum, counts)) > 0
    assert min(way["gradient"]) > 0


def timeless(folder):
    costs = {"seconds", "peak_mb"}
    return [{key: value for key, value in row.items() if key not in costs} for row in read(folder).rows]


def test_a_comparison_that_was_stopped_goes_on_bit_for_bit(tmp_path, monkeypatch, capsys):
    words = f"--units 20 --n-train 150 --labels 1000 --learners {QUICK} --seeds 1"
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert main(["compare", *words.split(), "--out", str(whole)]) == 0
    original, calls = SupervisedTraining._epoch, []

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) == 50:  # of 60
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(SupervisedTraining, "_epoch", stop)
    assert main(["compare", *words.split(), "--out", str(stopped)]) == 130
    assert "neuropil run --resume" in capsys.readouterr().err
    monkeypatch.setattr(SupervisedTraining, "_epoch", original)
    assert main(["run", "--resume", str(stopped)]) == 0
    assert (stopped / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert timeless(stopped) == timeless(whole)


@pytest.mark.data
@pytest.mark.skipif(
    not Path(os.environ.get("NEUROPIL_DATA", "."), "mnist").is_dir(), reason="NEUROPIL_DATA has no mnist/"
)
@pytest.mark.parametrize(("name", "least"), [("mnist_krotov", 0.90), ("fashion_krotov", 0.79)])
def test_full_size_images_at_a_small_number(name, least, tmp_path):
    out = tmp_path / "out"
    words = f"run {name} --units 300 --n-train 2000 --epochs 6 --readout-epochs 6 --labels 5000"
    assert main([*words.split(), "--learners", "krotov_hopfield", "random_features", "--out", str(out)]) == 0
    found = {row["learner"]: row["accuracy"] for row in json.loads((out / "results.json").read_text())["rows"]}
    assert found["Krotov-Hopfield"] > least
    assert found["Krotov-Hopfield"] > found["random features"]
