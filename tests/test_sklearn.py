"""scikit-learn estimators: every check of scikit-learn, what users do with estimators, and accuracies side by side."""

import doctest
from copy import deepcopy
from itertools import pairwise

import numpy as np
import pandas
import pytest
import torch
from scipy.special import log_softmax
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import neuropil.sklearn.association
import neuropil.sklearn.features
import neuropil.sklearn.hebbian
import neuropil.sklearn.networks
from neuropil.bench import sklearn as bench
from neuropil.errors import Refusal
from neuropil.plasticity import ExplainAway
from neuropil.sklearn import (
    AssociationRuleClassifier,
    HebbianClassifier,
    HebbianFeatures,
    SpikeTimeClassifier,
    STDPNetworkClassifier,
)
from neuropil.sklearn.networks import likeliest

ROOMS = [getattr(neuropil.sklearn, name) for name in ("association", "features", "hebbian", "networks")]


@parametrize_with_checks(
    [
        HebbianFeatures(n_units=20, epochs=2),
        HebbianClassifier(n_units=12, epochs=1),
        AssociationRuleClassifier(12, k=1, epochs=1, min_steps=50, learning_rate=0.1),
        STDPNetworkClassifier(12, n_generation_units=0, epochs=1, min_steps=30, learning_rate=0.03),
        SpikeTimeClassifier(12, epochs=1, min_steps=32, learning_rate=0.07),
    ]
)
def test_every_check_of_scikit_learn_passes(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it scikit-learn skips a check
    check(estimator)


def test_features_are_those_of_the_layer_that_learned():
    x = np.random.default_rng(3).normal(1.3, 2.1, (200, 6))
    features = HebbianFeatures(30, rule=ExplainAway(k=3), random_state=2).fit(x)
    layer = features._learner.model.units
    with torch.no_grad():
        rows = torch.from_numpy(x[:9])
        want = layer(torch.cat([rows, -rows], 1)).relu().numpy()
    np.testing.assert_allclose(features.transform(x[:9]), want, rtol=1e-12, atol=1e-12)
    last = layer.weight.detach().clone()
    features._learner.settle_()  # is of no use any more: the last step was settled, too
    assert torch.equal(layer.weight, last)
    start = HebbianFeatures(30, rule=ExplainAway(k=3), random_state=2, learning_rate=0).fit(x)
    assert np.abs(start.weights_ - features.weights_).max() > 0.01


@pytest.mark.parametrize("model", [HebbianClassifier(9, epochs=2), SpikeTimeClassifier(9, epochs=2, min_steps=1)])
def test_a_verbose_estimator_prints_its_passes_and_learns_the_same(model, capsys):
    x, y = load_wine(return_X_y=True)
    quiet = model.set_params(random_state=0).fit(x, y).predict_proba(x)
    assert capsys.readouterr().out == ""
    np.testing.assert_array_equal(model.set_params(verbose=1).fit(x, y).predict_proba(x), quiet)
    said = capsys.readouterr().out.splitlines()
    assert [line.split(", ")[1] for line in said] == ["1 of 2", "2 of 2"]
    assert all(line.startswith(("HebbianFeatures: ", "SpikeTimeClassifier: ")) for line in said)
    with pytest.raises(Refusal, match="needs verbose as True, False or a whole number >= 0, got 'yes'"):
        model.set_params(verbose="yes").fit(x, y)


@pytest.mark.parametrize(
    "model",
    [AssociationRuleClassifier(9), STDPNetworkClassifier(9, n_generation_units=0), SpikeTimeClassifier(9)],
    ids=type,
)
def test_few_rows_get_as_many_passes_as_the_fewest_steps_take(model, capsys):
    x, y = load_wine(return_X_y=True)
    model.set_params(epochs=1, batch_size=50, min_steps=9, random_state=0, verbose=1).fit(x, y)  # 4 steps in a pass
    assert [line.split(", ")[1] for line in capsys.readouterr().out.splitlines()] == ["1 of 3", "2 of 3", "3 of 3"]


def test_a_second_fit_forgets_all_of_the_first():
    x, y = load_wine(return_X_y=True)
    x, model = StandardScaler().fit_transform(x), HebbianClassifier(9, epochs=1, random_state=0)
    once, twice = (model.fit(x, y).partial_fit(x[:50], y[:50]).decision_function(x) for _ in range(2))
    np.testing.assert_array_equal(once, twice)


def test_partial_fit_learns_from_one_batch_after_the_other():
    x = np.random.default_rng(4).normal(size=(300, 5))
    features = HebbianFeatures(20, random_state=0)
    seen = [features.partial_fit(part).weights_ for part in np.split(x, 3)]
    assert all(np.abs(a - b).max() > 1e-3 for a, b in pairwise(seen))
    again = deepcopy(features)  # one that was learning goes on
    np.testing.assert_array_equal(again.partial_fit(x).weights_, features.partial_fit(x).weights_)


ONLINE = {
    "features and readout": HebbianClassifier(40, epochs=3, batch_size=20, random_state=0),
    "association": AssociationRuleClassifier(40, batch_size=10, min_steps=60, random_state=0),
}


@pytest.mark.parametrize("model", ONLINE.values(), ids=ONLINE)
def test_a_classifier_learns_from_one_batch_after_the_other(model):
    x, y = load_wine(return_X_y=True)
    x, names = StandardScaler().fit_transform(x), np.array(["a", "b", "c"])[y]
    order = np.random.default_rng(0).permutation(len(x))
    whole, stream = clone(model).fit(x, names), clone(model)
    scores = []
    for _ in range(4):
        for part in np.array_split(order, 4):
            stream.partial_fit(x[part], names[part], classes=["c", "b", "a"])
        scores.append(stream.score(x, names))
    assert scores[-1] > 0.95
    np.testing.assert_allclose(stream.predict_proba(x).sum(1), 1)
    again = deepcopy(stream)  # one that was learning goes on
    later = [one.partial_fit(x[:50], names[:50]).predict_proba(x) for one in (again, stream)]
    np.testing.assert_array_equal(*later)
    before = whole.decision_function(x)
    assert np.abs(whole.partial_fit(x[:50], names[:50]).decision_function(x) - before).max() > 1e-4
    rates = [deepcopy(stream).set_params(learning_rate=lr).partial_fit(x, names) for lr in (1e-6, 0.1)]
    assert np.abs(np.subtract(*(one.decision_function(x) for one in rates))).max() > 1e-3  # the later rate is heard
    assert whole.score(x, names) > 0.95
    for rows, labels, classes, message in (
        (x[:9], names[:9], None, "needs classes=, all that will ever come, in its first call"),
        (x[:9], names[:9], ["a"], "needs two classes or more, got one class"),
        (x[:9], names[:9], ["b", "c"], r"knows the classes \['b' 'c'\], got \['a'\] too"),
    ):
        with pytest.raises(Refusal, match=message):
            clone(model).partial_fit(rows, labels, classes=classes)
    with pytest.raises(Refusal, match="goes on with the classes of before"):
        stream.partial_fit(x[:9], names[:9], classes=["a", "b"])
    with pytest.raises(Refusal, match=r"partial_fit goes on with the n_units"):
        deepcopy(stream).set_params(n_units=41).partial_fit(x[:9], names[:9])
    for settings, message in (
        ({"learning_rate": -1}, "needs learning_rate"),
        ({"batch_size": 0}, "needs batch_size as a whole number >= 1, got 0"),
    ):
        with pytest.raises(Refusal, match=message):
            deepcopy(stream).set_params(**settings).partial_fit(x[:9], names[:9])
    orders = [deepcopy(stream) for _ in range(2)]
    for seed, one in enumerate(orders):  # rows are taken in random order
        one._rng.manual_seed(seed)
    assert np.ptp([one.partial_fit(x, names).decision_function(x) for one in orders], 0).max() > 1e-6


def test_the_readout_that_learns_from_batches_comes_near_to_the_fitted_one():
    x, y = load_wine(return_X_y=True)
    x, two = StandardScaler().fit_transform(x), y.clip(max=1)
    for labels in y, two:
        settings = {"learning_rate": 0.0, "batch_size": 20, "C": 0.1, "random_state": 0}  # features stay at their start
        stream = HebbianClassifier(20, **settings)
        for _ in range(40):
            stream.partial_fit(x, labels, classes=np.unique(labels))
        z = stream.readout_[0].transform(np.hstack([stream.features_.transform(x), x]))
        want = LogisticRegression(C=0.1 * 40).fit(z, labels).predict_proba(z)  # every row came 40 times
        assert log_loss(labels, want) < log_loss(labels, stream.predict_proba(x)) < log_loss(labels, want) + 0.03
        assert stream.n_iter_[0] == 40 * 9


def test_columns_of_a_stream_have_the_moments_of_all_its_rows():
    rng = np.random.default_rng(1)
    parts = [rng.normal(3.0, 2.0, (20, 4)), rng.normal(-1.0, 5.0, (33, 4)), rng.normal(0.0, 1e-3, (7, 4))]
    stream = AssociationRuleClassifier(6, random_state=0)
    for part in parts:
        part[:, 3] = 7.0
        stream.partial_fit(part, np.arange(len(part)) % 2, classes=[0, 1])
    rows = np.concatenate(parts)
    np.testing.assert_allclose(stream.low_, rows.mean(0), rtol=1e-12)
    np.testing.assert_allclose(stream.span_[:3], rows.std(0)[:3], rtol=1e-12)
    assert stream.span_[3] == 1


def test_searches_frames_and_processes_work():
    x, y = load_wine(return_X_y=True, as_frame=True)
    names = y.map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    model = make_pipeline(StandardScaler(), HebbianClassifier(n_units=50, random_state=0))
    search = GridSearchCV(model, {"hebbianclassifier__rule": ["explain_away", ExplainAway(k=4)]}, cv=3, n_jobs=2)
    assert search.fit(x, names).best_score_ > 0.9
    assert set(search.predict(x)) == set(names)
    frame = HebbianFeatures(7, random_state=0).set_output(transform="pandas").fit_transform(x)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == [f"hebbianfeatures{i}" for i in range(7)]
    assert clone(search.best_estimator_).get_params()["hebbianclassifier__n_units"] == 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "hebbian"}, "unknown rule 'hebbian'"),
        ({"rule": ExplainAway}, r"HebbianFeatures needs as rule a name .* such as ExplainAway\(\), got <class"),
        ({"rule": ["soft_hebb"]}, "HebbianFeatures needs as rule a name"),
        ({"n_units": 0}, "HebbianFeatures needs n_units as a whole number >= 1, got 0"),
        ({"n_units": "10"}, "HebbianFeatures needs n_units as a whole number >= 1, got '10'"),
        ({"n_units": 10**12}, "there is not enough memory"),
        ({"epochs": 1.5}, "HebbianFeatures needs epochs as a whole number >= 0, got 1.5"),
        ({"batch_size": None}, "HebbianFeatures needs batch_size as a whole number >= 1, got None"),
        ({"learning_rate": -1}, "HebbianFeatures needs learning_rate as a finite number >= 0, got -1"),
        ({"learning_rate": np.inf}, "HebbianFeatures needs learning_rate as a finite number >= 0, got inf"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(Refusal, match=message):
        HebbianFeatures(**settings).fit(np.eye(3))


def test_views_in_any_order_serve():
    x, y = load_wine(return_X_y=True)
    for view in x[::-1], x[:, ::-1], np.asfortranarray(x):
        one, other = (HebbianClassifier(8, epochs=1, random_state=0).fit(z, y) for z in (view, view.copy("C")))
        np.testing.assert_array_equal(one.predict_proba(view), other.predict_proba(view.copy("C")))


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_entries_whose_squares_cannot_be_summed_are_refused(scale):
    with pytest.raises(Refusal, match=r"HebbianFeatures needs entries from 1e-100 to 1e\+100, got .* MaxAbsScaler"):
        HebbianFeatures(3).fit(np.eye(5) * scale)


def test_partial_fit_does_not_pass_over_settings_that_changed():
    features = HebbianFeatures(3, random_state=0).partial_fit(np.eye(5))
    message = r"partial_fit goes on with the n_units and the rule of before, got .* call fit"
    for settings in {"n_units": 4}, {"rule": "soft_hebb"}:
        other = deepcopy(features).set_params(**settings)
        with pytest.raises(Refusal, match=message):
            other.partial_fit(np.eye(5))


def test_the_examples_run():
    done = [doctest.testmod(room) for room in ROOMS]
    assert sum(one.attempted for one in done) > 15
    assert not any(one.failed for one in done)


def test_the_classifier_is_within_two_points_of_a_logistic_regression_and_the_benchmark_pairs_by_seed():
    rows = bench.main(bench.Config(seeds=1, folds=2, data=("wine", "digits")))
    assert [row["data"] for row in rows] == ["wine", "digits"]
    (two,) = bench.main(bench.Config(seeds=2, folds=2, data=("wine",), models=("logistic regression",)))
    assert len(set(two["logistic regression"])) == 2  # every seed shuffles the folds anew
    assert all(row["Hebbian"][0] > row["logistic regression"][0] - 0.02 for row in rows)
    row = {**rows[0], "Hebbian": [0.92, 0.96], "start": [0.90, 0.92], "logistic regression": [0.9, 0.9]}
    shown = bench.cells(row)
    assert shown["minus start"] == "+3.00 ± 12.71"  # of 2 and 4 points: t(1) = 12.706, s / sqrt(2) = 1
    assert shown["Hebbian"].startswith("94.00 ± ")
    bench.CAPTION.format(**rows[-1])


def test_units_that_an_outlier_silenced_are_told_of():
    x = np.random.default_rng(5).normal(size=(120, 4))
    HebbianFeatures(20, random_state=0).fit(x)  # without a warning
    x[7, 2] = 1e8
    with pytest.warns(UserWarning, match=r"no unit answers to 100 % of the rows; scale the columns first"):
        HebbianFeatures(20, random_state=0).fit(x)


SMALL = {"epochs": 1, "min_steps": 60, "random_state": 0}


def test_networks_take_any_labels_columns_and_scales():
    x, y = load_wine(return_X_y=True, as_frame=True)
    names = y.map({0: "Barolo", 1: "Grignolino", 2: "Barbera"})
    for model in (
        AssociationRuleClassifier((30, 30), learning_rate=0.05, **SMALL),
        STDPNetworkClassifier(20, n_generation_units=0, learning_rate=0.03, **SMALL),
        SpikeTimeClassifier(20, learning_rate=0.05, **SMALL),
    ):
        fitted = clone(model).fit(x, names)
        assert fitted.score(x, names) > 0.9
        inputs, middle = fitted._scaled(x.to_numpy()).numpy(), isinstance(model, AssociationRuleClassifier)
        want = (x.to_numpy() - x.to_numpy().min(0)) / np.ptp(x.to_numpy(), 0)
        if middle:  # and a constant, by which rows of length 1 tell how far they are from the mean
            want = np.hstack([StandardScaler().fit_transform(x.to_numpy()), np.ones((len(x), 1))])
        both = isinstance(model, SpikeTimeClassifier)  # one input spikes earlier the larger, one the smaller the entry
        np.testing.assert_allclose(inputs, np.hstack([want, 1 - want]) if both else want, atol=1e-12)
        far = fitted._scaled(np.vstack([x.to_numpy().min(0) - 1e3, x.to_numpy().max(0) + 1e3])).numpy()
        if not middle:  # beyond the training data entries are cut off
            np.testing.assert_array_equal(far[:, :13], [[0.0] * 13, [1.0] * 13])
        other = clone(model).fit(x * 1000 - 7, names)  # every column is scaled
        assert (other.predict(x * 1000 - 7) == fitted.predict(x)).mean() > 0.97
        proba = fitted.predict_proba(x)
        np.testing.assert_allclose(proba.sum(1), 1)
        own = np.log(proba[np.arange(len(x)), np.searchsorted(fitted.classes_, names)])
        for factor in (0.8, 1.25):  # the likeliest temperature: neither warmer nor colder is better
            scaled = fitted.decision_function(x) * factor
            shifted = scaled - scaled.max(1, keepdims=True)
            log = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
            assert own.mean() >= log[np.arange(len(x)), np.searchsorted(fitted.classes_, names)].mean() - 1e-6


def test_the_temperature_is_the_likeliest():
    scores, labels = np.random.default_rng(0).normal(0, 3, (60, 4)), np.arange(60) % 4
    scores[np.arange(60), labels] += 2
    found, factors = likeliest(scores, labels), np.geomspace(0.05, 20, 400)
    losses = [-log_softmax(factor * scores, 1)[np.arange(60), labels].mean() for factor in factors]
    assert found == pytest.approx(factors[np.argmin(losses)], rel=0.01)


def test_an_stdp_network_generates_and_fills_in():
    x, y = load_wine(return_X_y=True)
    model = STDPNetworkClassifier(30, n_generation_units=30, min_steps=250, random_state=0).fit(x, y)
    made = model.sample(np.repeat([0, 1, 2], 20), random_state=1)
    assert made.shape == (60, 13)
    assert (x.min(0) - 1e-9 <= made).all()
    assert (made <= x.max(0) + 1e-9).all()
    assert (model.predict(made) == np.repeat([0, 1, 2], 20)).mean() > 0.8
    np.testing.assert_array_equal(made, model.sample(np.repeat([0, 1, 2], 20), random_state=1))
    assert not np.array_equal(made, model.sample(np.repeat([0, 1, 2], 20), random_state=2))
    holes = x[:60].copy()
    holes[:, [0, 6, 12]] = np.nan
    filled = model.complete(holes, y[:60])
    np.testing.assert_array_equal(filled[~np.isnan(holes)], holes[~np.isnan(holes)])
    wrong, mean = (np.abs((got - x[:60]) / np.ptp(x, 0))[:, [0, 6, 12]].mean() for got in (filled, x.mean(0)))
    assert wrong < mean
    assert np.isfinite(model.complete(holes)).all()
    drawn = [model.complete(holes, y[:60], random_state=seed) for seed in (1, 1, 2)]
    assert np.array_equal(*drawn[:2])
    assert not np.array_equal(drawn[0], drawn[2])
    for call, message in (
        (lambda: model.complete(holes, np.full(60, 7)), "the network knows classes"),
        (lambda: model.sample([9]), "the network knows classes"),
        (lambda: model.complete(holes[:, :5]), "X has 5 features, but STDPNetworkClassifier is expecting 13"),
        (lambda: STDPNetworkClassifier(9, n_generation_units=0, **SMALL).fit(x, y).sample([0]), "fills nothing in"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (STDPNetworkClassifier(0), "STDPNetworkClassifier needs n_units as a whole number >= 1, got 0"),
        (
            STDPNetworkClassifier(9, batch_size=0),
            "STDPNetworkClassifier needs batch_size as a whole number >= 1, got 0",
        ),
        (SpikeTimeClassifier(0), "SpikeTimeClassifier needs n_units as a whole number >= 1, got 0"),
        (SpikeTimeClassifier(9, min_steps=0), "SpikeTimeClassifier needs min_steps as a whole number >= 1, got 0"),
        (SpikeTimeClassifier(learning_rate=0), "SpikeTimeClassifier needs learning_rate > 0, got 0"),
        (HebbianClassifier(passthrough="yes"), "HebbianClassifier needs passthrough as True or False, got 'yes'"),
        (AssociationRuleClassifier(2), "neurons"),
        (AssociationRuleClassifier(epochs=0), "AssociationRuleClassifier needs epochs as a whole number >= 1, got 0"),
    ],
)
def test_settings_of_networks_that_cannot_be_are_refused(model, message):
    with pytest.raises(Refusal, match=message):
        model.fit(*load_wine(return_X_y=True))


SHARED = {"n_units": 13, "epochs": 3, "batch_size": 20, "random_state": 1}
HEBBIAN = SHARED | {"rule": "hard_wta", "learning_rate": 0.1}
NETWORK = SHARED | {"learning_rate": 0.02, "min_steps": 5}


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (HebbianFeatures, HEBBIAN),
        (HebbianClassifier, HEBBIAN | {"C": 0.01, "max_iter": 2, "passthrough": False, "class_weight": "balanced"}),
        (AssociationRuleClassifier, NETWORK | {"k": 1, "slope": 3.0}),
        (STDPNetworkClassifier, NETWORK | {"n_generation_units": 3}),
        (SpikeTimeClassifier, NETWORK),
    ],
)
def test_every_setting_of_an_estimator_changes_what_it_learns(kind, settings):
    x, y = (part[::4] for part in load_wine(return_X_y=True))
    assert settings.keys() | {"verbose"} == kind().get_params().keys()
    small = {"n_units": 12, "epochs": 1, "min_steps": 1, "random_state": 0}
    start = kind(**{name: value for name, value in small.items() if name in settings})
    said = lambda model: getattr(model.fit(x, y), "transform" if kind is HebbianFeatures else "decision_function")(x)
    before = said(start)
    np.testing.assert_array_equal(said(clone(start)), before)
    for name, value in settings.items():
        assert not np.array_equal(said(clone(start).set_params(**{name: value})), before), name
