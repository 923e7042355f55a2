"""The room `data`: splits against their laws, data sets against published facts."""

import math
import os
import time

import numpy as np
import pytest
import torch
from torch import nn

from neuropil import data
from neuropil.data import Split, hold_out, relabel, subset
from neuropil.data.files import Source
from neuropil.data.registry import set_module
from neuropil.data.sets import yin_yang
from neuropil.errors import Refusal
from neuropil.evaluate import accuracy, assign_units
from neuropil.models import AssociationClassifier, BackpropClassifier, FeatureClassifier, SpikingClassifier

# name: (shape of one example, dtype, training examples per class, mean pixel per channel where published)
SETS = {
    "cifar10": ((3, 32, 32), torch.uint8, [5000] * 10, [0.4914, 0.4822, 0.4465]),
    "digits": ((1, 8, 8), torch.float32, [142, 146, 142, 146, 145, 146, 145, 143, 139, 144], None),
    "fashion_mnist": ((1, 28, 28), torch.uint8, [6000] * 10, [0.2860]),
    "iris": ((4,), torch.float32, [40, 40, 40], None),
    "mnist": ((1, 28, 28), torch.uint8, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], [0.1307]),
    "yin_yang": ((4,), torch.float32, [1681, 1702, 1617], None),
}


def numbered(counts):
    """A split whose only feature is the example's number, with counts[c] examples of class c, mixed."""
    y = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(7))]
    return Split(torch.arange(len(y), dtype=torch.float32)[:, None], y, len(counts))


def images(n=6):
    return Split(torch.arange(n * 9, dtype=torch.uint8).view(n, 1, 3, 3), torch.arange(n) % 3, 3)


def spoilt(value, shape=(4, 1, 5, 5)):
    x = torch.full(shape, 0.5)
    x[2].view(-1)[3] = value
    return x


LABELS = torch.tensor([0, 1, 2, 0])
BAD = {
    "nan": (spoilt(math.nan), LABELS, "finite values, got NaN or infinity in 1 of 4 examples, first in example 2"),
    "infinity": (spoilt(math.inf), LABELS, "finite"),
    "nan in a vector": (spoilt(math.nan, (4, 5)), LABELS, "finite"),
    "minus infinity in a vector": (spoilt(-math.inf, (4, 5)), LABELS, "finite"),
    "bright": (spoilt(1.5), LABELS, r"pixels in \[0, 1\], got 0.5 to 1.5"),
    "dark": (spoilt(-0.1), LABELS, r"pixels in \[0, 1\]"),
    "no channel axis": (torch.zeros(4, 5, 5), LABELS, r"got \(4, 5, 5\) in float32; .* x\[:, None\]"),
    "channels last": (torch.zeros(4, 8, 5, 3), LABELS, "8 channels and looks channels-last"),
    "float64": (torch.zeros(4, 3).double(), LABELS, "float64"),
    "bytes as vectors": (torch.zeros(4, 3, dtype=torch.uint8), LABELS, "uint8"),
    "empty": (torch.zeros(0, 3), LABELS[:0], "at least one example"),
    "a label too few": (torch.zeros(4, 3), LABELS[:3], "4 examples and 3 labels"),
    "a label too large": (torch.zeros(4, 3), LABELS + 1, "0 <= y < classes=3, or -1 where there is none, got 1 to 3"),
    "a label below -1": (torch.zeros(4, 3), LABELS - 2, "or -1 where there is none, got -2 to 0"),
    "float labels": (torch.zeros(4, 3), LABELS.float(), r"labels \(n,\) in int64, got \(4,\) in float32"),
    "one-hot labels": (torch.zeros(4, 3), torch.eye(4).long(), r"got \(4, 4\)"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_split_refuses(fault):
    x, y, message = BAD[fault]
    with pytest.raises(Refusal, match=message):
        Split(x, y, 3)


# Examples without a label


def half_labelled():
    """Eight vectors, of which those with an odd number have no label."""
    y = torch.arange(8) % 3
    y[1::2] = -1
    return Split(torch.arange(8, dtype=torch.float32)[:, None], y, 3)


def test_labels_may_be_missing():
    split = half_labelled()
    assert split.labelled().x.flatten().tolist() == [0, 2, 4, 6]
    assert (split.labelled().y >= 0).all()
    whole = images()
    assert whole.labelled() is whole
    assert Split.unlabelled(whole.x, 3).y.eq(-1).all()
    assert "8 examples of (1,), 3 classes, 4 without a label" in repr(split)
    assert "without" not in repr(whole)
    with pytest.raises(Refusal, match="none of the 6 examples has a label"):
        Split.unlabelled(whole.x, 3).labelled()


def test_examples_without_a_label_are_a_stratum_of_their_own():
    y = torch.cat([torch.arange(40) % 2, torch.full((60,), -1)])
    split = Split(torch.arange(100, dtype=torch.float32)[:, None], y, 2)
    rest, held = hold_out(split, 0.25, 0)
    assert [(part.y < 0).sum().item() for part in (rest, held, subset(split, 10, 0))] == [45, 15, 6]
    assert ids(rest) | ids(held) == ids(split)


@pytest.mark.parametrize(
    "use",
    [
        lambda split: BackpropClassifier(nn.Sequential(nn.Linear(1, 2))).fit(split, rng=torch.Generator()),
        lambda split: AssociationClassifier((6,)).fit(split, rng=torch.Generator()),
        lambda split: SpikingClassifier((6,)).fit(split, rng=torch.Generator()),
        lambda split: accuracy(None, split),
        lambda split: assign_units(nn.Identity(), split),
        lambda split: relabel(split, (0, 1, -1)),
    ],
    ids=["backprop", "association", "spiking", "accuracy", "assign_units", "relabel"],
)
def test_what_needs_labels_refuses_examples_without(use):
    with pytest.raises(Refusal, match="needs a label for every example, but 4 of 8 have none"):
        use(half_labelled())


def test_features_learn_from_all_examples_and_the_readout_from_those_with_a_label():
    seen = []

    class Learning:
        def fit_(self, body, train, *, rng, tracker):
            seen.append(len(train))

    model = FeatureClassifier(nn.Sequential(nn.Flatten()), learning=Learning()).fit(
        half_labelled(), rng=torch.Generator()
    )
    alone = FeatureClassifier(nn.Sequential(nn.Flatten())).fit(half_labelled().labelled(), rng=torch.Generator())
    assert seen == [8]
    x = half_labelled().x
    assert torch.equal(model.decision_function(x), alone.decision_function(x))


def test_splits_are_compared_by_identity():
    assert images() != images()
    split = images()
    assert split == split
    assert len({split, split}) == 1


def test_vectors_may_have_any_finite_value():
    x = torch.tensor([[-3.0, 1e9], [2.0, 0.0]])
    assert torch.equal(Split(x, torch.tensor([0, 1]), 2).pixels(), x)


@pytest.mark.parametrize("index", [4, slice(1, 5, 2), [3, 0], torch.tensor([5, 5]), torch.arange(6) % 2 == 0])
def test_a_part_of_a_split_is_a_split(index):
    whole = images()
    part = whole[index]
    rows = torch.arange(6)[index].view(-1)
    assert isinstance(part, Split)
    assert part.classes == 3
    assert torch.equal(part.x, torch.stack([whole.x[i] for i in rows]))
    assert torch.equal(part.y, rows % 3)


def test_pixels_are_bytes_over_255_and_the_bytes_stay():
    split = images()
    want = np.arange(54, dtype=np.float32).reshape(6, 1, 3, 3) / np.float32(255)
    assert np.array_equal(split.pixels().numpy(), want)
    assert torch.equal(split.x, images().x)


@pytest.mark.parametrize("shuffle", [None, 3])
@pytest.mark.parametrize("size", [1, 4, 5, 10])
def test_batches_cover_everything_once(size, shuffle):
    split = numbered([4, 6])
    rng = None if shuffle is None else torch.Generator().manual_seed(shuffle)
    parts = list(split.batches(size, shuffle=rng))
    seen = torch.cat([part.x for part in parts]).flatten().long()
    assert [len(part) for part in parts] == [size] * (10 // size) + [10 % size] * (10 % size > 0)
    assert torch.equal(seen.sort().values, torch.arange(10))
    assert torch.equal(torch.cat([part.y for part in parts]), split.y[seen])
    assert torch.equal(seen, torch.arange(10)) == (shuffle is None)


def test_the_generator_alone_draws_the_order():
    def order(seed):
        rng = torch.Generator().manual_seed(seed)
        return [int(x) for part in numbered([9, 9]).batches(4, shuffle=rng) for x in part.x]

    assert order(1) == order(1) != order(2)


def test_batches_are_float_pixels():
    (batch,) = images().batches(6)
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.x, images().pixels())


@pytest.mark.parametrize("size", [0, -1, 7])
def test_a_batch_that_cannot_be_filled_is_refused_at_once(size):
    with pytest.raises(Refusal, match=f"1 to 6 examples, got size={size}"):
        images(6).batches(size)


def test_the_checksum_knows_every_pixel_and_label():
    split, sums = images(), set()
    for k in range(54):
        x = split.x.clone()
        x.view(-1)[k] += 1
        sums.add(Split(x, split.y, 3).checksum())
    sums |= {Split(split.x, split.y.roll(1), 3).checksum(), Split(split.x, split.y, 4).checksum()}
    sums |= {Split(split.x.view(6, 1, 9, 1), split.y, 3).checksum(), split[:5].checksum(), split.checksum()}
    assert len(sums) == 54 + 5
    assert split[torch.arange(6)].checksum() == split.checksum()
    flip_inputs = split.x.transpose(2, 3).contiguous().transpose(2, 3)  # equal content, other strides
    assert Split(flip_inputs, split.y, 3).checksum() == split.checksum()
    x, y = torch.zeros(170_000, 2), torch.zeros(170_000, dtype=torch.int64)
    last = y.clone().index_fill_(0, torch.tensor(169_999), 1)
    sums = {Split(x, y, 2).checksum(), Split(x, last, 2).checksum(), Split(x + last[:, None], y, 2).checksum()}
    assert len(sums) == 3  # also the last one of many


COUNTS = {"even": [30, 30, 30], "uneven": [101, 17, 5, 52], "a class without examples": [20, 0, 20]}


def ids(split):
    return set(split.x.flatten().tolist())


def within_one(part, whole, share):
    exact = torch.bincount(whole.y, minlength=whole.classes) * share
    return bool(((torch.bincount(part.y, minlength=whole.classes) - exact).abs() < 1).all())


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("share", [0.2, 0.3, 0.5, 0.77])
def test_hold_out_is_stratified_disjoint_and_complete(counts, share):
    whole = numbered(COUNTS[counts])
    rest, held = hold_out(whole, share, 0)
    assert len(held) == round(share * len(whole))
    assert within_one(held, whole, share)
    assert not ids(rest) & ids(held)
    assert ids(rest) | ids(held) == ids(whole)
    assert all(whole.y[int(x)] == y for part in (rest, held) for x, y in zip(part.x, part.y))


@pytest.mark.parametrize("counts", COUNTS)
@pytest.mark.parametrize("n", [37, 40])
def test_subset_is_stratified(counts, n):
    whole = numbered(COUNTS[counts])
    part = subset(whole, n, 0)
    assert len(part) == len(ids(part)) == n
    assert within_one(part, whole, n / len(whole))
    assert all(whole.y[int(x)] == y for x, y in zip(part.x, part.y))


def test_the_seed_alone_draws_the_parts():
    whole = numbered([30, 30, 30])
    for draw in (lambda seed: subset(whole, 30, seed).x, lambda seed: hold_out(whole, 0.3, seed)[1].x):
        torch.rand(1)
        assert torch.equal(draw(5), draw(5))
        assert set(draw(5).flatten().tolist()) != set(draw(6).flatten().tolist())


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, math.nan])
def test_hold_out_refuses_a_share_outside_0_and_1(share):
    with pytest.raises(Refusal, match="0 < fraction < 1"):
        hold_out(numbered([9, 9]), share, 0)


@pytest.mark.parametrize("labels", [(0, 1), (0, 1, -1, 0)])
def test_relabel_needs_a_label_for_every_class(labels):
    with pytest.raises(Refusal, match=f"relabel needs 3 labels, got {len(labels)}"):
        relabel(Split(torch.rand(4, 2), torch.tensor([0, 1, 2, 0]), 3), labels)


def test_small_classes_are_refused():
    with pytest.raises(Refusal, match="class 1 has 2 and would have 0 held out"):
        hold_out(numbered([98, 2]), 0.1, 0)
    with pytest.raises(Refusal, match="class 1 has 1 and would have 1 held out"):
        hold_out(numbered([9, 1]), 0.9, 0)
    with pytest.raises(Refusal, match="no example of class 1, which has 2 of 100; take n >= 50"):
        subset(numbered([98, 2]), 10, 0)
    assert (subset(numbered([98, 2]), 50, 0).y == 1).sum() == 1  # the cure cures


@pytest.mark.parametrize("n", [0, -3, 19])
def test_subset_refuses_more_than_there_is(n):
    with pytest.raises(Refusal, match=f"1 <= n <= 18 .* got n={n}"):
        subset(numbered([9, 9]), n, 0)


def test_every_data_set_has_a_row_here():
    assert list(SETS) == data.set_names()
    assert [row.name for row in data.list_sets()] == data.set_names()
    assert {name for name in SETS if name in dir(data)} == set(SETS)


def real(name):
    """(train, test), or a skip that says what is missing."""
    rows = {row.name: row for row in data.list_sets()}
    if isinstance(set_module(name).SOURCE, Source):
        if not os.environ.get("NEUROPIL_DATA"):
            pytest.skip("NEUROPIL_DATA names no data folder")
        if not rows[name].present:
            pytest.skip(f"{name} is not in {rows[name].where}")
    return rows[name], *data.load(name)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.data) if n in ("cifar10", "fashion_mnist", "mnist") else n for n in SETS]
)
def test_a_data_set_is_what_was_published(name):
    row, train, test = real(name)
    shape, dtype, counts, mean = SETS[name]
    assert (len(train), len(test)) == row.examples
    assert len(row.purpose) > 40
    for part in (train, test):
        assert part.x.shape[1:] == shape
        assert part.x.dtype == dtype
        assert part.classes == len(counts)
    assert torch.bincount(train.y).tolist() == counts
    if mean:
        assert train.pixels().mean((0, 2, 3)).tolist() == pytest.approx(mean, abs=1e-4)  # published to four digits
    seen = {tuple(x.tolist()) for x in train.pixels()[:300].flatten(1)}
    assert not seen & {tuple(x.tolist()) for x in test.pixels()[:300].flatten(1)} or name == "iris"  # has baselines


@pytest.mark.data
def test_mnist_is_the_right_way_up_and_fast():
    real("mnist")
    times = []
    for _ in range(3):
        start = time.perf_counter()
        train, test = data.mnist()
        times.append(time.perf_counter() - start)
    assert min(times) < 1.0
    assert train.y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # as printed in every introduction
    assert test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert test.x[0, 0].float().sum(1).argmax() in (7, 8, 9)  # the first is a 7: its bar is a row, near the top


def test_digits_and_iris_follow_the_seed():
    for load in (data.digits, data.iris):
        assert load(1)[1].checksum() == load(1)[1].checksum() != load(2)[1].checksum()
    train, test = data.digits()
    assert (train.x * 16 == (train.x * 16).round()).all()
    assert train.x.max() == 1
    train, test = data.iris()
    torch.testing.assert_close(train.x.mean(0), torch.zeros(4), rtol=0, atol=1e-6)  # float32 sums of 120
    torch.testing.assert_close(train.x.std(0, correction=0), torch.ones(4), rtol=1e-6, atol=0)
    assert test.x.mean(0).abs().max() > 0.01  # scaled by the training part, not by itself


def test_yin_yang_points_lie_where_their_class_is():
    train, test = data.yin_yang()
    valid = yin_yang.validation()
    assert [len(part) for part in (train, valid, test)] == [5000, 1000, 1000]
    for part in (train, valid, test):
        x, y, *mirrored = part.x.double().T
        torch.testing.assert_close(torch.stack(mirrored), torch.stack([1 - x, 1 - y]), rtol=0, atol=1e-7)
        assert (torch.hypot(x - 0.5, y - 0.5) <= 0.5).all()
        centre = torch.where(x < 0.5, 0.25, 0.75)
        bow = (1 / 16 - (x - centre) ** 2).clamp(min=0).sqrt()
        above = y > torch.where(x < 0.5, 0.5 - bow, 0.5 + bow)  # the S: a bow below, then a bow above
        dot = torch.hypot(x - centre, y - 0.5) < 0.1
        assert torch.equal(part.y, torch.where(dot, 2, above.long()))


def test_yin_yang_is_the_published_sample():
    first = {42: ([0.68030754, 0.45049925], [2, 1, 2, 1, 1]), 40: ([0.23409665, 0.40172498], [2, 2, 1, 1, 1])}
    for seed, (point, labels) in first.items():
        part = yin_yang.generate(5, seed)
        assert part.x[0, :2].tolist() == pytest.approx(point, abs=1e-7)
        assert part.y.tolist() == labels
    for part, seed in zip((*data.yin_yang(), yin_yang.validation()), (42, 40, 41)):
        assert torch.equal(part[:5].x, yin_yang.generate(5, seed).x)


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(Refusal, match=r"unknown data set 'mnits'\. Did you mean 'mnist'"):
        data.load("mnits")
    with pytest.raises(AttributeError, match="mnist"):
        _ = data.minst


def test_examples_that_a_network_made_have_no_gradient():
    x = torch.rand(6, 3, requires_grad=True)
    split = Split((2 * x).sigmoid(), torch.arange(6) % 2, 2)
    assert not split.x.requires_grad
    assert not split[:2].pixels().requires_grad


def test_an_array_with_missing_labels_has_the_classes_of_the_others():
    made = Split.from_numpy(np.zeros((4, 1, 3, 3), np.uint8), np.array([0, 1, -1, -1]))
    assert (made.classes, made.y.tolist()) == (2, [0, 1, -1, -1])
    assert Split.from_numpy(np.zeros((2, 5), np.float32), np.array([-1, 2])).classes == 3
