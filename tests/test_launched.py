"""Processes that a launcher starts, real ones: what does not fit is refused in one line, by those that see it."""

import os
import socket
import subprocess
import sys

import numba
import pytest

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
