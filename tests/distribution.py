"""Build the package as it would be published, and use it as a stranger does: `python tests/distribution.py`.

The source archive and the wheel are built, checked by twine, compared with the tree and installed into an empty
environment, which borrows only the packages that this one has. Then its commands run in a folder of their own.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 5_000_000  # bytes of an archive
NEEDED = {
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "CITATION.cff",
    "CODE_OF_CONDUCT.md",
    "SECURITY.md",
    "docs/rules.md",
    "src/neuropil/py.typed",
}
USES = (
    "from neuropil import HardWTA, correlate; import neuropil; print(neuropil.__file__)",
    "from neuropil.cli import main; main(['list'])",
    "from neuropil.cli import main; assert main('run single_neuron --n-updates 3'.split()) == 0",
)


def call(*words: object, **settings: object) -> str:
    """What a command prints; the whole of it and an end if it fails."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **settings)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def tracked() -> list[str]:
    """The files that git tracks and that are there."""
    return [path for path in call("git", "ls-files", cwd=ROOT).splitlines() if (ROOT / path).is_file()]


def copied(folder: Path) -> Path:
    """The tree without what is not tracked: what an earlier build left behind decides what the next one packs."""
    for path in tracked():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, folder / path)
    return folder


def check(condition: bool, message: str) -> None:
    """End with the message where something is not as it should be."""
    if not condition:
        sys.exit(message)


def check_archives(folder: Path) -> Path:
    """Compare both archives with the tree; the path of the wheel."""
    (source,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    for archive in source, wheel:
        check(archive.stat().st_size < LARGEST, f"{archive.name} has {archive.stat().st_size} bytes")
    with tarfile.open(source) as files:
        inside = {name.partition("/")[2] for name in files.getnames()}
    check(inside >= NEEDED, f"the source archive lacks {sorted(NEEDED - inside)}")
    check(not any(name.startswith("tests") for name in inside), "the source archive has a part of the tests")
    with zipfile.ZipFile(wheel) as files:
        inside = {name for name in files.namelist() if ".dist-info/" not in name}
    want = {path.removeprefix("src/") for path in tracked() if path.startswith("src/")}
    check(inside == want, f"wheel and tree differ in {sorted(inside ^ want)}")
    return wheel


def use(wheel: Path, folder: Path) -> None:
    """Install the wheel into an empty environment, and run it where nothing of the tree is."""
    call(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    call(python, "-m", "pip", "install", "--quiet", "--no-deps", wheel)
    room = call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    (folder / "work").mkdir()
    for one in USES:
        borrow = f"import sys; sys.path += {[path for path in sys.path if path.endswith('site-packages')]!r}; "
        said = call(python, "-I", "-c", borrow + one, cwd=folder / "work")
        if "__file__" in one:
            check(said.strip().startswith(room), f"not the installed package was used but {said.strip()}")


def main() -> None:
    """Build, compare, install, use."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call(sys.executable, "-m", "build", "--outdir", folder / "dist", copied(folder / "tree"))
        call(sys.executable, "-m", "twine", "check", "--strict", *(folder / "dist").iterdir())
        wheel = check_archives(folder / "dist")
        use(wheel, folder)
        print(f"{wheel.name} is as the tree, can be installed and works")


if __name__ == "__main__":
    main()
