"""Estimators that learn again, or on: after `fit`, with other settings; the readout; what a layer refuses."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neuropil.errors import Refusal
from neuropil.plasticity import Oja
from neuropil.sklearn import (
    AssociationRuleClassifier,
    HebbianClassifier,
    HebbianFeatures,
)


def test_after_fit_a_stream_goes_on_from_there_whatever_was_learned_before():
    x, y = (part[::4] for part in load_wine(return_X_y=True))
    model = AssociationRuleClassifier(9, k=1, epochs=1, min_steps=1, random_state=0)
    fresh, used = clone(model), clone(model).partial_fit(x, y, classes=[0, 1, 2])
    after = [one.fit(x, y).partial_fit(x[:9], y[:9]).decision_function(x) for one in (fresh, used)]
    np.testing.assert_array_equal(*after)


@pytest.mark.parametrize("direct", [True, False])
def test_the_readout_is_the_logistic_regression_of_scikit_learn_with_its_penalty(direct):
    x, y = load_wine(return_X_y=True)
    model = HebbianClassifier(12, epochs=1, C=0.003, passthrough=direct, random_state=0).fit(x, y)
    seen = np.hstack([model.features_.transform(x), x[:, : x.shape[1] * direct]])
    other = make_pipeline(StandardScaler(), LogisticRegression(C=0.003, max_iter=1000)).fit(seen, y)
    np.testing.assert_allclose(model.predict_proba(x), other.predict_proba(seen), atol=1e-12)


def test_what_was_changed_after_fit_counts_from_the_next_fit_on():
    x, y = load_wine(return_X_y=True)
    model = HebbianClassifier(12, epochs=1, random_state=0).fit(x, y)
    before = model.predict_proba(x)
    model.set_params(passthrough=False)
    np.testing.assert_array_equal(model.predict_proba(x), before)
    with pytest.raises(Refusal, match="partial_fit goes on with the passthrough of before, got False; call fit"):
        model.partial_fit(x, y)
    assert model.fit(x, y).readout_[0].n_features_in_ == 12
    with pytest.raises(Refusal, match="HebbianClassifier needs 2 features or more, got n_features = 1"):
        model.fit(x[:, :1], y)


def test_a_refusal_of_attach_names_the_layer():
    x = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(Refusal, match="units of layer 'units' would not compete under Oja"):
        HebbianFeatures(3, rule=Oja(), random_state=0).fit(x)


def test_the_weights_of_classes_are_those_of_the_logistic_regression():
    x, y = load_wine(return_X_y=True)
    rare = {0: 1.0, 1: 1.0, 2: 7.3}
    for weight in ("balanced", rare):
        model = HebbianClassifier(12, epochs=1, class_weight=weight, random_state=0).fit(x, y)
        seen = np.hstack([model.features_.transform(x), x])
        other = make_pipeline(StandardScaler(), LogisticRegression(class_weight=weight, max_iter=1000)).fit(seen, y)
        np.testing.assert_allclose(model.predict_proba(x), other.predict_proba(seen), atol=1e-12)
    with pytest.raises(Refusal, match="balanced weights need all rows at once, in fit"):
        model.set_params(class_weight="balanced").partial_fit(x, y)


def test_a_stream_descends_the_weighted_loss():
    x, y = load_wine(return_X_y=True)
    start = HebbianClassifier(12, epochs=1, batch_size=500, random_state=0)
    counts = {}
    for weight in (None, {0: 1.0, 1: 1.0, 2: 30.0}):
        model = clone(start).set_params(class_weight=weight)
        for _ in range(40):
            model.partial_fit(x, y, classes=[0, 1, 2])
        counts[weight is None] = model.predict_proba(x)[:, 2].mean()
    assert counts[False] > counts[True] + 0.02
