"""What mkdocs does not see by itself: the reference, executed notebooks, pages beside docs/, and what is missing."""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "src"), str(Path(__file__).parent)]
import reference  # noqa: E402

NOTEBOOKS = ROOT / "build/notebooks"


def on_config(config: Any) -> Any:
    """The parts of the menu that are folders list their pages."""
    for part in config.nav:
        ((title, inside),) = part.items()
        if inside == "api/":
            part[title] = list(reference.pages())
        elif inside == "notebooks/":
            text = (ROOT / "docs/notebooks/index.md").read_text(encoding="utf-8")
            part[title] = [
                "notebooks/index.md",
                *(f"notebooks/{name}.md" for name in re.findall(r"\((\w+)\.py\)", text)),
            ]
        elif inside == "results/":
            names = sorted(path.name for path in (ROOT / "docs/results").glob("*.md") if path.stem != "README")
            part[title] = ["results/README.md", *(f"results/{name}" for name in names)]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that are made, and refuses a public name that says nothing."""
    if found := list(reference.lacking()):
        raise PluginError("\n".join(["public names without words or example:", *found]))
    made: dict[str, str | bytes] = dict(reference.pages())
    for path in sorted(NOTEBOOKS.glob("**/*")):
        if path.is_file():
            made[f"notebooks/{path.relative_to(NOTEBOOKS).as_posix()}"] = path.read_bytes()
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        made[name] = (ROOT / name).read_text(encoding="utf-8").replace("](docs/", "](")
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """In the repository the list of notebooks leads to their source, here to what they show."""
    return markdown.replace(".py)", ".md)") if page.file.src_uri == "notebooks/index.md" else markdown
