"""Every recipe takes a device and threads, which are put to work in one place."""

import json
import os
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import neuropil
from cli_place import go, place, said, weights  # noqa: F401
from neuropil.cli import follower, workers
from neuropil.cli.recipes import load, recipe_names
from neuropil.cli.settings import repeatable, use_machine
from neuropil.errors import Refusal
from neuropil.experiments.machine import Machine
from neuropil.runs.machine import machine, package_digest, peak_memory_mb
from other_device import as_chosen, other_device

RECIPES = {name: load(name) for name in recipe_names()}


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_where_it_computes(name):
    assert issubclass(RECIPES[name].Config, Machine)
    assert {"device", "threads"} <= {item.name for item in fields(RECIPES[name].Config)}


@pytest.mark.filterwarnings("ignore:threads=3 on")
@pytest.mark.usefixtures("threads")
def test_threads_are_set_before_the_recipe_begins():
    use_machine(Machine(threads=3))
    assert torch.get_num_threads() == 3
    use_machine(Machine(threads=0))
    assert torch.get_num_threads() == 3
    use_machine(object())
    assert torch.get_num_threads() == 3
    with pytest.raises(Refusal, match="'meta' holds no numbers"):
        use_machine(Machine(device="meta"))


@pytest.mark.filterwarnings("ignore:threads=3 on")
@pytest.mark.usefixtures("threads")
def test_a_recipe_runs_with_as_many_threads_as_asked(place):  # noqa: F811
    toy = Path("toy.py")
    text = toy.read_text().replace("seed: int = 0", "seed: int = 0\n    threads: int = 2")
    toy.write_text(text.replace("    run.every = 0\n", "    run.update_metadata(seen=torch.get_num_threads())\n"))
    assert go("run ./toy.py --threads 3 --out out") == 0
    facts = Path("out/run.json").read_text()
    assert '"seen": 3' in facts
    assert '"threads": 3' in facts.partition('"machine"')[2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused_in_one_line(place, capsys):  # noqa: F811
    assert "device 'cuda' cannot be used" in said(capsys, "run mnist_krotov --device cuda --out out")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is such a device")
def test_the_refusal_of_a_device_is_short(place, capsys):  # noqa: F811
    for device in ("mps", "privateuseone"):  # the second is a device of an extension that is not there
        refusal = said(capsys, f"run mnist_krotov --device {device} --out out")
        assert "cannot be used" in refusal
        assert len(refusal) < 250


def test_auto_is_the_gpu_where_there_is_one_and_the_run_says_which(place):  # noqa: F811
    toy = Path("toy.py")
    toy.write_text(toy.read_text().replace("seed: int = 0", 'seed: int = 0\n    device: str = "auto"'))
    assert go("run ./toy.py --out here") == 0
    with other_device():
        assert use_machine(Machine(device="auto")).device == "cuda"
        assert go("run ./toy.py --out there") == 0
    for folder, device in (("here", "cuda" if torch.cuda.is_available() else "cpu"), ("there", "cuda")):
        assert json.loads(Path(folder, "run.json").read_text())["config"]["device"] == device


def test_on_a_gpu_torch_takes_repeatable_kernels_and_stays_as_strict_as_it_was_told():
    with as_chosen():
        repeatable(Machine(device="cpu"))
        assert not torch.are_deterministic_algorithms_enabled()
        torch.backends.cudnn.benchmark = torch.utils.deterministic.fill_uninitialized_memory = True
        repeatable(Machine(device="cuda:0"))
        assert not torch.backends.cudnn.benchmark
        assert not torch.utils.deterministic.fill_uninitialized_memory  # which costs time and hides nothing
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.backends.cudnn.deterministic
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        torch.use_deterministic_algorithms(True)
        repeatable(Machine(device="cuda"))
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_all_processes_of_torchrun_speak_as_the_device_of_the_run_asks(place, monkeypatch):  # noqa: F811
    toy = Path("toy.py")
    toy.write_text(toy.read_text().replace("seed: int = 0", 'seed: int = 0\n    device: str = "cpu"'))
    assert go("run ./toy.py --out one") == 0
    started = []
    for room in (workers, follower):
        monkeypatch.setattr(room, "start", started.append)
    monkeypatch.setattr(workers, "said", lambda value: started.append("over"))
    monkeypatch.setattr(workers, "leave", lambda: None)
    monkeypatch.setattr(follower, "follow", lambda: 0)
    monkeypatch.setattr(workers, "count_of", lambda job: 2)
    monkeypatch.setattr(follower, "count_of", lambda job: 2)
    monkeypatch.setattr(workers, "in_torchrun", lambda: 2)
    with other_device():
        for rank, words in (
            *(
                ("1", f"run ./toy.py --out two {words}")
                for words in ("", "--device cuda", "--device=cuda", "--device auto")
            ),
            *(("1", f"run --resume one {words}") for words in ("", "--device=cuda", "--device auto")),
            ("0", "run --resume one"),
        ):
            monkeypatch.setenv("RANK", rank)
            assert go(words) == 0
        facts = json.loads(Path("one/run.json").read_text())
        Path("one/run.json").write_text(json.dumps(facts | {"config": facts["config"] | {"device": "cuda"}}))
        monkeypatch.setenv("RANK", "1")
        assert go("run --resume one") == 0
    assert started == ["gloo", *["nccl"] * 3, "gloo", *["nccl"] * 2, *["gloo", "gloo", "over"], "nccl"]


def test_a_process_that_is_refused_leaves_it_to_the_first_one_to_say_so(monkeypatch, capsys):
    slept = []

    def refused():
        raise Refusal("no such thing.")

    monkeypatch.setattr(follower, "said", refused)
    monkeypatch.setattr("time.sleep", slept.append)
    assert follower.follow() == 2
    assert slept == [follower.PATIENCE]
    assert capsys.readouterr().out == "no such thing.\n"


def test_processes_of_one_machine_share_its_threads(monkeypatch):
    given = []
    monkeypatch.setattr(workers, "_own_threads", lambda: 9)
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    for count, stages, own in ((2, None, 0), (None, None, 0), (20, None, 0), (2, 2, 0), (2, None, 5)):
        options = SimpleNamespace(workers=count, stages=stages)
        workers.use_threads(SimpleNamespace(options=options, config=SimpleNamespace(threads=own)))
    assert given == [4, 1, 2]


def test_a_run_knows_its_machine_and_the_code_that_made_it(tmp_path, monkeypatch):
    for count, want in ((0, None), (2, "GPU 0, GPU 1")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda k: f"GPU {k}")
        assert machine()["gpu"] == want
    if Path("/proc/self/status").exists():
        (most,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        assert peak_memory_mb() == pytest.approx(int(most.split()[1]) / 1024, rel=0.05)
    monkeypatch.setattr(neuropil, "__file__", str(tmp_path / "__init__.py"))
    digests = []
    for name, text in (("a.py", "1"), ("deep/b.py", "2"), ("deep/b.py", "3"), ("deep/c.py", ""), ("d.txt", "")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        digests.append(package_digest.__wrapped__())
    assert len({*digests}) == 4
    assert digests[3] == digests[4]  # no code


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_goes_on_where_it_was_or_says_why_not(place, capsys):  # noqa: F811
    toy, saved = Path("toy.py"), []
    text = toy.read_text().replace("seed: int = 0", 'seed: int = 0\n    device: str = "cpu"')
    toy.write_text(text.replace("torch.zeros(2)", "torch.zeros(2, device=config.device)"))
    toy.write_text(toy.read_text().replace("torch.rand(2, generator=rng)", "torch.rand(2, generator=rng).to(weight)"))
    with other_device():
        assert go("run ./toy.py --device cuda --out whole") == 0
        for folder in ("stopped", "moved"):
            Path("more1.stop").touch()
            assert go(f"run ./toy.py --device cuda --out {folder}") == 130
        assert go("run --resume stopped") == 0
    capsys.readouterr()
    for words, refusal in (("", "device 'cuda' cannot be used"), (" --device cpu", "setting device cuda, now cpu")):
        assert go(f"run --resume moved{words}") == 2
        assert refusal in capsys.readouterr().err.splitlines()[-1]
    assert go("run --resume moved --device cpu --anyway") == 0
    for folder in ("whole", "stopped", "moved"):
        saved.append(weights(folder))
    assert saved[0] == saved[1] == saved[2]
    assert "setting device cuda, now cpu" in Path("moved/run.json").read_text()
