"""Executes docs/notebooks and writes the notebooks, with outputs, as .ipynb and as pages into build/notebooks."""

import base64
import subprocess
import sys
import time
from pathlib import Path

import jupytext
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
OUT = ROOT / "build/notebooks"


def main(*names: str) -> None:
    """Execute those of these names, or all that are older than their source or than the package."""
    OUT.mkdir(parents=True, exist_ok=True)
    package = max(path.stat().st_mtime for path in (ROOT / "src").rglob("*.py"))
    pages = sorted((ROOT / "docs/notebooks").glob("*.py"))
    for path in pages:
        made = OUT / f"{path.stem}.md"
        fresh = made.exists() and made.stat().st_mtime > max(package, path.stat().st_mtime)
        if path.stem in names or not (names or fresh):
            start = time.monotonic()
            execute(path)
            print(f"{path.stem}: {time.monotonic() - start:.0f} s", flush=True)
    for left in OUT.glob("*"):
        if left.name.split(".")[0].split("--")[0] not in {path.stem for path in pages}:
            left.unlink()  # of a notebook that is gone


def execute(path: Path) -> None:
    """Run every cell of one notebook in its own process; an error ends it and writes nothing."""
    notebook = jupytext.read(path)
    place = {"metadata": {"path": path.parent}}
    client = NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place)
    client.execute(stderr=subprocess.DEVNULL)  # of the kernel: what cells print there is in their outputs all the same
    jupytext.write(notebook, OUT / f"{path.stem}.ipynb", fmt="ipynb")
    (OUT / f"{path.stem}.md").write_text(page(notebook, path.stem), encoding="utf-8")


def page(notebook: dict, name: str) -> str:
    """The notebook in Markdown; its pictures become files beside it."""
    parts = []
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "markdown":
            parts.append(cell["source"])
            continue
        parts.append(f"```python\n{cell['source']}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = f"{name}--{number}.png"
                (OUT / picture).write_bytes(base64.b64decode(data["image/png"]))
                parts.append(f"![What the cell above shows]({picture})")
            elif output.get("name") != "stderr":
                text = data.get("text/plain") or output.get("text", "")
                parts.append(f'```{{.text .output title="output"}}\n{text.rstrip()}\n```')
    title, *rest = parts
    heading, _, lead = title.partition("\n")
    source = f"*Notebook with its outputs; [download it]({name}.ipynb).*"
    return "\n\n".join([heading, source, lead.strip(), *rest]) + "\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
