"""Processes that a launcher starts, real ones: what does not fit is refused in one line, by those that see it."""

import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from threading import Thread

import numba
import pytest
from torch.distributed import HashStore

from neuropil.errors import Refusal
from neuropil.plasticity import meeting
from test_workers import TOY

pytestmark = pytest.mark.processes
LINES = {
    "sizes": "neuropil: a launcher needs to tell all processes how many they are, but process {} was told of {}, "
    "process {} of {}; see WORLD_SIZE.\n",
    "--workers": "neuropil: torchrun started 2 processes, and --workers asks for 3; leave --workers out.\n",
    "versions": "process 2 has other versions than the first: numba 0.1, and not "
    f"{numba.__version__}; install the same on all.\n",
    "data": "FeatureClassifier needs the same examples and a generator of the same seed in every process, "
    "got others in some; see which data each of them finds.\n",
}


@pytest.fixture
def room(tmp_path):
    """A recipe whose data depend on the process, and a numba of another version."""
    (tmp_path / "toy.py").write_text(TOY.replace("manual_seed(7)", 'manual_seed(int(os.environ["DATA"]))'))
    other = tmp_path / "other" / "numba-0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: numba\nVersion: 0.1\n")
    return tmp_path


def launch(room, port, *told, words=()):
    """What processes that are told so end with, and say."""
    command = [sys.executable, "-m", "neuropil", "run", "./toy.py", "--out", "out", "--quiet", *words]
    always = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "DATA": "7"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, cwd=room, env=always | one, **streams) for one in told]
    try:
        return [(run.returncode, *said) for run in runs for said in [run.communicate(timeout=200)]]
    finally:
        for run in runs:
            run.kill()


def free():
    """A port that is free."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def process(rank, size=2, **more):
    """What a process is told."""
    return {"RANK": str(rank), "WORLD_SIZE": str(size), **more}


def test_a_port_that_is_taken_and_a_process_too_many_are_refused(room):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ((code, out, err),) = launch(room, port, process(0))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(
        f"neuropil: the processes cannot meet at 127.0.0.1:{port}; is the port taken, are all there? ("
    )
    said = "neuropil: a launcher needs to give RANK below WORLD_SIZE, got 2 and 2.\n"
    assert launch(room, free(), process(2)) == [(2, "", said)]
    said = "neuropil: a launcher needs to set WORLD_SIZE to a whole number, got 'two'.\n"
    assert launch(room, free(), process(0, "two")) == [(2, "", said)]


@pytest.mark.parametrize("sizes", [(2, 3), (3, 2)])
def test_processes_that_were_told_of_other_numbers_are_refused(room, sizes):
    found = launch(room, free(), *(process(rank, size) for rank, size in enumerate(sizes)))
    first, second = sizes
    assert found[0] == (2, "", LINES["sizes"].format(1, first, 2, second))
    assert found[1] == (2, "", LINES["sizes"].format(2, second, 1, first))


def test_other_workers_than_were_started_are_refused_by_all(room):
    assert launch(room, free(), process(0), process(1), words=["--workers", "3"]) == [(2, "", LINES["--workers"])] * 2
    assert not (room / "out").exists()


def test_other_data_in_one_process_are_refused(room):
    first, second = launch(room, free(), process(0), process(1, DATA="8"))
    assert first == (2, "", f"neuropil: {LINES['data']}")
    assert second == (2, LINES["data"], "")


def test_other_versions_in_one_process_are_refused(room):
    path = os.pathsep.join([str(room / "other"), os.environ.get("PYTHONPATH", "")])
    first, second = launch(room, free(), process(0), process(1, PYTHONPATH=path))
    assert first == (2, "", f"neuropil: {LINES['versions']}")
    assert second == (2, LINES["versions"], "")
    assert not (room / "out").exists()


@pytest.mark.parametrize(
    ("given", "local", "host", "seconds"),
    [(None, "2", "far", 600), (None, "3", "far", 300), (None, "2", "127.0.0.1", 300), ("7.5", "3", "far", 7.5)],
)
def test_processes_wait_less_on_one_machine_than_on_many(monkeypatch, given, local, host, seconds):
    for name, value in ("NEUROPIL_WAIT", given), ("LOCAL_WORLD_SIZE", local):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    assert meeting.patience(host, 3) == seconds


@pytest.mark.parametrize("given", ["soon", "0", "-3", "inf", "nan", ""])
def test_a_wait_that_is_no_time_is_refused(monkeypatch, given):
    monkeypatch.setenv("NEUROPIL_WAIT", given)
    with pytest.raises(Refusal, match=f"NEUROPIL_WAIT needs a time in s, such as 60, got '{given}'."):
        meeting.patience("far", 3)


def meets(store, rank, seconds, told):
    """What a process of three is told where they meet."""
    try:
        meeting._agree(store, rank, 3, meeting.Wait("far:1", seconds))
        told[rank] = "all are there"
    except Refusal as error:
        told[rank] = str(error)


@pytest.mark.parametrize("there", [3, 2])
def test_a_process_that_does_not_come_is_named_by_all_others(monkeypatch, there, capsys):
    monkeypatch.setattr(meeting, "NOTICE", 0.1)
    monkeypatch.setattr(meeting, "STAY", 0.3)
    store, told = HashStore(), {}
    some = [Thread(target=meets, args=(store, rank, [1.5, 20, 20][rank], told)) for rank in range(there)]
    start = time.monotonic()
    for one in some:
        one.start()
    for one in some:
        one.join()
    assert time.monotonic() - start < 10
    why = "waited 1.5 s at far:1 for process 3 of 3, in vain; start all, or wait longer by NEUROPIL_WAIT=3 before the"
    assert told == dict.fromkeys(range(there), "all are there" if there == 3 else f"{why} command.")
    line = "waiting at far:1 for process 3 of 3, at most 1.5 s; NEUROPIL_WAIT=60 before the command makes it 60 s"
    assert (f"neuropil: {line}\n" in capsys.readouterr().err) == (there == 2)


def test_a_process_that_is_alone_waits_as_long_as_it_is_told_or_until_ctrl_c(room):
    command = [sys.executable, "-m", "neuropil", "run", "./toy.py", "--quiet", "--out"]
    runs, ports = [], [free() for _ in range(3)]
    for rank, port, wait in zip((0, 1, 0), ports, ("11", "11", "300")):
        told = process(rank, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), DATA="7", NEUROPIL_WAIT=wait)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a job in the background does not
        one = [*command, f"out-{wait}"]
        runs.append(subprocess.Popen(one, cwd=room, env=os.environ | told, preexec_fn=listens, **streams))
    try:
        assert runs[2].stderr.readline().startswith(f"neuropil: waiting at 127.0.0.1:{ports[2]} for process 2 of 2, at")
        runs[2].send_signal(signal.SIGINT)
        said = "neuropil: stopped; go on with: neuropil run --resume out-300\n"
        assert (runs[2].communicate(timeout=60), runs[2].returncode) == (("", said), 130)
        for one, port, other in zip(runs, ports[:2], (2, 1)):
            out, err = one.communicate(timeout=60)
            waiting, why = err.splitlines()
            assert waiting.startswith(f"neuropil: waiting at 127.0.0.1:{port} for process {other} of 2, at most 11 s")
            assert why.startswith(f"neuropil: waited 11 s at 127.0.0.1:{port} for process {other} of 2, in vain; start")
            assert (one.returncode, out) == (2, "")
    finally:
        for one in runs:
            one.kill()


UNEVEN = """
import neuropil as npl, torch
from torch import nn

npl.distributed.start("gloo")
rank = torch.distributed.get_rank()
model = npl.distributed.share(nn.Sequential(nn.Linear(8, 5)))
learner = npl.attach(model, {"0": npl.HardWTA()}, torch.rand(50, 8))
for step in range(9):
    if rank == 1 and step == 3:
        break
    learner.propose_(torch.rand(20, 8))
    torch.optim.SGD(model.parameters(), 0.2).step()
    learner.settle_()
npl.distributed.stop()
"""


def test_a_process_with_fewer_steps_ends_all_and_says_why(tmp_path):
    """Without that both would wait for good, each for another message."""
    (tmp_path / "uneven.py").write_text(UNEVEN)
    always = os.environ | {"OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free())}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    runs = [
        subprocess.Popen([sys.executable, "uneven.py"], cwd=tmp_path, env=always | process(rank), **streams)
        for rank in range(2)
    ]
    try:
        said = [run.communicate(timeout=120)[1] for run in runs]
    finally:
        for run in runs:
            run.kill()
    assert [run.returncode for run in runs] == [1, 1]
    assert "another process has done all of its steps, and this one has more; all need the same number" in said[0]
    assert "this process has done all of its steps, and another one had more; all need the same number" in said[1]
