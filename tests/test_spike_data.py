"""Spike trains as data: the publishers' bytes by hand, rasters and times by two routes, faults that name the file."""

import struct
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from common import refused
from neuropil._grid import step_of
from neuropil.data import SpikeSplit, hold_out, read_nmnist, read_shd, subset
from neuropil.errors import Refusal
from neuropil.plasticity import PairSTDP
from neuropil.spiking import CurrentLIF, flatten_events, from_raster, simulate, to_raster
from neuropil.spiking.times import scatter_events

DT = 1.7e-3


def trains(n=7, lines=5, most=6, dtype=torch.float32):
    rng = torch.Generator().manual_seed(0)
    times = torch.rand(n, lines, most, generator=rng, dtype=dtype) * 0.0499
    return times.where(torch.rand(n, lines, most, generator=rng) < 0.6, torch.inf).sort(-1).values


def split_of(times, **more):
    y = torch.arange(len(times)) % 3
    return SpikeSplit.from_times(times, y, 3, t_end=30 * DT, **more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_times_raster_and_events_are_one_train(dtype):
    times = trains(dtype=dtype)
    split = split_of(times)
    assert torch.equal(split.times(), times[..., : split.times().shape[2]])
    raster = split.raster(DT)
    assert torch.equal(raster, to_raster(times, DT, 30 * DT))
    again = split_of(from_raster(raster, DT).to(dtype))
    assert torch.equal(again.raster(DT), raster)
    assert torch.equal(split.raster(DT, binary=True), raster.clamp(max=1))
    assert raster.max() > 1
    assert torch.equal(split.counts().x, raster.sum(0).float())


def test_events_in_order_of_time_are_the_same_train():
    times = trains()
    split, events = split_of(times), flatten_events(times)
    for k in range(len(split)):
        one = split[k]
        assert torch.equal(one.time, events.time[k, : events.total[k]])
        assert torch.equal(one.line, events.source[k, : events.total[k]])


def test_what_belongs_to_each_event_is_put_where_its_spike_stands_with_all_its_digits():
    times = trains().double() / 3
    put = scatter_events((events := flatten_events(times)).time, events, times.shape)
    assert torch.equal(put, torch.where(times.isfinite(), times, 0))
    assert put.dtype == torch.float64


def test_parts_keep_their_spikes():
    times = trains()
    split = split_of(times)
    width = split.times().shape[2]
    for index in (slice(2, 5), torch.tensor([6, 0, 6]), split.y == 1, -1):
        part = split[index]
        want = times[index].reshape(-1, *times.shape[1:])[..., :width]
        assert torch.equal(part.times(), want[..., : part.times().shape[2]])
        assert torch.equal(part.y, split.y[index].view(-1))
    whole = torch.cat([part.times().isfinite().sum((1, 2)) for part in split.batches(3)])
    assert torch.equal(whole, times.isfinite().sum((1, 2)))
    shuffled = torch.cat([part.y for part in split.batches(3, shuffle=torch.Generator().manual_seed(1))])
    assert sorted(shuffled.tolist()) == sorted(split.y.tolist()) != shuffled.tolist()
    rest, held = hold_out(split, 0.45, seed=0)
    assert (len(rest), len(held), len(subset(split, 3, seed=0))) == (4, 3, 3)
    early = split.until(0.02)
    assert torch.equal(early.times().isfinite().sum(2), (times <= 0.02).sum(2))
    assert early.raster(DT).shape[0] == 12
    assert len(split.until(float(split.time.max())).time) == len(split.time)  # the last spike, right at the end, stays
    assert torch.equal(split.until(0.07).raster(DT)[: len(split.raster(DT)) - 1], split.raster(DT)[:-1])


def test_a_network_and_a_rule_take_the_steps_as_they_come():
    split = split_of(trains(), shape=(1, 5))
    run = simulate(CurrentLIF(threshold=0.1, dt=DT), split.steps(DT))
    assert torch.equal(run.counts, simulate(CurrentLIF(threshold=0.1, dt=DT), split.raster(DT)).counts)
    assert run.counts.shape == (7, 1, 5)
    assert run.counts.sum() > 5
    rule, layer = PairSTDP(dt=DT), torch.nn.Linear(5, 2, bias=False)
    steps = [x.flatten(1) for x in split.steps(DT, binary=True)]
    memory = rule.init(layer, steps[0], steps[0][:, :2])
    for x in steps:
        change, memory = rule.step(layer, x, x[:, 3:], memory)
    assert change.isfinite().all()


def event(x, y, on, microseconds):
    """The 40 bits of an event, as published: x and y, then polarity and 23 bits of time."""
    return struct.pack(">BBBH", x, y, on << 7 | microseconds >> 16, microseconds & 0xFFFF)


def test_events_of_n_mnist_are_read_bit_by_bit(tmp_path):
    recorded = {
        "3/00007.bin": [(33, 0, 1, 12), (5, 33, 0, 70_003), (5, 33, 0, 70_003)],
        "3/00002.bin": [(1, 2, 0, 300_000), (0, 0, 1, 8_388_607), (9, 9, 1, 1)],
        "5/00001.bin": [(4, 30, 1, 0)],
    }
    for name, events in recorded.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"".join(event(*one) for one in events))
    split = read_nmnist(tmp_path)
    assert (len(split), split.names, split.y.tolist(), split.shape) == (3, ("3", "5"), [0, 0, 1], (2, 34, 34))
    for k, name in enumerate(sorted(recorded)):
        times = split[k].times().view(2, 34, 34, -1)
        assert times.isfinite().sum() == len(recorded[name])
        for x, y, on, microseconds in recorded[name]:
            assert pytest.approx(microseconds / 1e6, rel=1e-6) in times[on, y, x].tolist()
    assert split.t_end == pytest.approx(8.388607)
    assert len(read_nmnist(tmp_path, per_class=1)) == 2


def test_events_of_a_sensor_that_is_not_square_land_in_their_rows(tmp_path):
    (tmp_path / "0").mkdir()
    (tmp_path / "0/1.bin").write_bytes(event(2, 9, 1, 30) + event(19, 1, 0, 40) + event(17, 8, 1, 50))
    times = read_nmnist(tmp_path, shape=(2, 10, 20))[0].times().view(2, 10, 20, -1)
    assert times.isfinite().nonzero()[:, :3].tolist() == [[0, 1, 19], [1, 8, 17], [1, 9, 2]]


def test_a_clock_that_wrapped_is_no_spike_and_moves_what_comes_after_it(tmp_path):
    (tmp_path / "0").mkdir()
    events = event(1, 2, 1, 7), event(0, 240, 0, 8191), event(1, 2, 1, 3), event(0, 240, 0, 8191), event(1, 2, 1, 5)
    (tmp_path / "0/1.bin").write_bytes(b"".join(events))
    want = torch.tensor([7, 8192 + 3, 2 * 8192 + 5]) * 1e-6
    torch.testing.assert_close(read_nmnist(tmp_path).time, want, rtol=1e-6, atol=0)


def shd(path, n=4, **instead):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 30, n)
    parts = {
        "spikes/times": [rng.random(size).astype(np.float16) for size in sizes],
        "spikes/units": [rng.integers(0, 700, size).astype(np.uint16) for size in sizes],
        "labels": np.arange(n, dtype=np.uint16) % 3,
        "extra/keys": np.array(["zero", "one", "zwei"], "S"),
    } | instead
    with h5py.File(path, "w") as file:
        for name, values in parts.items():
            if isinstance(values, list):
                kept = file.create_dataset(name, len(values), h5py.vlen_dtype(values[0].dtype))
                for k, one in enumerate(values):
                    kept[k] = one
            elif values is not None:
                file[name] = values
    return parts


def test_files_of_shd_are_read(tmp_path):
    parts, split = shd(tmp_path / "shd_test.h5"), read_shd(tmp_path / "shd_test.h5")
    assert (split.names, split.shape, split.y.tolist()) == (("zero", "one", "zwei"), (700,), [0, 1, 2, 0])
    for k, (times, units) in enumerate(zip(parts["spikes/times"], parts["spikes/units"])):
        found = split[k].times()[0]
        for time, unit in zip(times, units):
            assert float(time) in found[unit].tolist()
        assert found.isfinite().sum() == len(times)
    assert len(read_shd(tmp_path / "shd_test.h5", max_examples=2)) == 2


BAD = {
    "a label too many": {"labels": np.arange(5, dtype=np.uint16) % 3},
    "a label without a name": {"labels": np.full(4, 3, np.uint16)},
    "labels in floats": {"labels": np.zeros(4)},
    "no units": {"spikes/units": None},
    "a unit of 700": {"spikes/units": [np.full(3, 700, np.uint16)] * 4, "spikes/times": [np.zeros(3, np.float16)] * 4},
    "NaN": {"spikes/units": [np.ones(3, np.uint16)] * 4, "spikes/times": [np.full(3, np.nan, np.float16)] * 4},
    "times without units": {"spikes/times": [np.zeros(2, np.float16)] * 4},
    "one number for all": {"spikes/times": np.float32(1.0)},
}


@pytest.mark.parametrize("fault", BAD.values(), ids=BAD)
def test_files_of_another_form_are_refused_by_name(fault, tmp_path):
    shd(tmp_path / "shd_train.h5", **fault)
    assert "shd_train.h5" in refused(lambda: read_shd(tmp_path / "shd_train.h5"))


def test_damaged_and_missing_recordings_are_refused_by_name(tmp_path):
    file = tmp_path / "0/1.bin"
    with pytest.raises(Refusal, match="there is no folder"):
        read_nmnist(tmp_path / "nothing")
    with pytest.raises(Refusal, match=r"needs a folder with \.bin files for each class"):
        read_nmnist(tmp_path)
    file.parent.mkdir()
    for content, says in {
        b"": r"1\.bin is empty: events have 5 bytes",
        event(1, 2, 1, 5)[:4]: r"1\.bin is truncated: events have 5 bytes each, got 4",
        event(1, 34, 1, 5): r"1\.bin needs pixels inside 34 x 34, got x up to 1 and y up to 34",
    }.items():
        file.write_bytes(content)
        with pytest.raises(Refusal, match=says):
            read_nmnist(tmp_path)
    shd(file)
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\0" * 99):
        file.write_bytes(content)
        with pytest.raises(Refusal, match=r"1\.bin is damaged, or not as published"):
            read_shd(file)
    with pytest.raises(Refusal, match="there is no file"):
        read_shd(tmp_path / "shd_train.h5")
    file.rename(packed := file.with_suffix(".gz"))
    with pytest.raises(Refusal, match=r"is packed; unpack it with: gunzip"):
        read_shd(packed)


ONE = {"time": torch.tensor([0.1, 0.2]), "line": torch.tensor([0, 1]), "start": torch.tensor([0, 1, 2])}
ONE |= {"y": torch.tensor([0, 1]), "classes": 2, "shape": (2,), "t_end": 0.5}
WRONG = {
    "late": ({"t_end": 0.15}, "0 <= time <= t_end=0.15"),
    "line": ({"line": torch.tensor([0, 2])}, "lines need 0 <= line < 2"),
    "start": ({"start": torch.tensor([0, 1, 3])}, "start needs to ascend from 0 to 2"),
    "order": ({"time": torch.tensor([0.2, 0.1]), "start": torch.tensor([0, 2, 2])}, "ascending times"),
    "label": ({"y": torch.tensor([0, 2])}, "labels need 0 <= y < classes=2"),
    "labels": ({"y": torch.tensor([0])}, "one label per example"),
    "ints": ({"time": torch.tensor([1, 2])}, "spikes need times"),
    "none": (
        {"start": torch.tensor([0]), "y": ONE["y"][:0], "time": ONE["time"][:0], "line": ONE["line"][:0]},
        "start needs",
    ),
    "names": ({"names": ("a",)}, "a name for each of its 2 classes"),
}


@pytest.mark.parametrize(("wrong", "says"), WRONG.values(), ids=WRONG)
def test_spikes_that_are_none_are_refused(wrong, says):
    assert len(SpikeSplit(**ONE)) == 2
    with pytest.raises(Refusal, match=says):
        SpikeSplit(**ONE | wrong)


def test_a_spike_at_the_end_is_in_the_last_step():
    split = SpikeSplit(**ONE | {"time": torch.tensor([0.25, 0.5])})
    assert [step.tolist() for step in split.steps(0.25)] == [[[0, 0], [0, 0]], [[1, 0], [0, 1]]]
    late = [step.tolist() for step in split.steps(0.24)]  # the last step is shorter
    assert late == [[[0, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]]
    assert len(split.until(0.56).raster(0.08)) == 7  # 0.56 / 0.08 is rounded to more than 7


def test_steps_and_ends_that_are_none_are_refused():
    split = split_of(trains())
    for do, says in {
        lambda: split.steps(1.0): "0 < dt <= t_end",
        lambda: split.until(0.0): "0 < t_end",
        lambda: next(iter(split.batches(8))): "1 to 7 examples",
        lambda: split_of(torch.full((2, 3), torch.nan)): "got NaN",
    }.items():
        with pytest.raises(Refusal, match=says):
            do()


@pytest.mark.parametrize("dt", ["1/1000", "1/500", "1/2000", "1/3000", "17/10000"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_time_that_is_a_border_but_for_rounding_is_in_the_step_that_begins_there(dt, dtype):
    """The oracle counts in fractions: nothing in it is rounded but the times themselves."""
    step, count = Fraction(dt), 1200
    border = torch.tensor([float(k * step) for k in range(count)], dtype=torch.float64).to(dtype)
    assert step_of(border, float(step)).tolist() == list(range(count))
    raster = to_raster(border[None, None], float(step), float(count * step))
    assert raster.flatten().tolist() == [1.0] * count
    between = torch.rand(3000, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
    exact = [Fraction(time) / step for time in between.tolist()]
    clear = [k for k, place in enumerate(exact) if abs(place - round(place)) > Fraction(1, 10**4)]
    assert len(clear) > 2900
    assert step_of(between, float(step))[clear].tolist() == [int(exact[k]) for k in clear]


def test_a_spike_at_the_end_is_there_in_single_precision_too():
    for end in (0.1, 0.2, 0.3, 0.7):
        split = SpikeSplit.from_times(torch.tensor([[[end]]]), torch.tensor([0]), classes=1, t_end=end)
        assert split.raster(end / 10).flatten().tolist() == [0.0] * 9 + [1.0]
        again = split.until(end)
        assert len(SpikeSplit(**{name: getattr(again, name) for name in SpikeSplit.__dataclass_fields__})) == 1
        with pytest.raises(Refusal, match="spikes need 0 <= time <= t_end"):
            SpikeSplit.from_times(torch.tensor([[[end * (1 + 3e-7)]]]), torch.tensor([0]), classes=1, t_end=end)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint8, torch.bool, torch.int64, torch.float64])
def test_a_long_raster_in_any_dtype_keeps_each_spike_and_its_place(dtype):
    raster = torch.zeros(5000, 1, 2, dtype=dtype)
    raster[:, 0, 0] = 1
    times = from_raster(raster, 1e-3)
    assert times.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    want = (torch.arange(5000, dtype=torch.float64) + 0.5) * 1e-3
    torch.testing.assert_close(times[0, 0].double(), want, rtol=1e-7, atol=0)
    assert times[0, 1].isinf().all()


def test_times_that_are_no_seconds_are_refused_before_all_their_steps_are_made():
    split = SpikeSplit.from_times(torch.tensor([[[3e5]]]), torch.tensor([0]), classes=1, t_end=3e5)  # us
    assert "times are in seconds: divide those in us by 1e6" in refused(lambda: split.steps(1e-3))
    assert sum(step.sum() for step in split.until(2.0).steps(1e-3)) == 0
    with pytest.raises(Refusal, match=r"lines in int64.*torch.uint16; use .float\(\) and .long\(\)"):
        replace(split, line=split.line.to(torch.uint16))


def test_a_sensor_with_more_rows_than_the_mark_of_a_wrap_is_refused(tmp_path):
    assert "a height up to 240, got (2, 256, 256)" in refused(lambda: read_nmnist(tmp_path, shape=(2, 256, 256)))
