"""Opens the built site in Chromium, wide and narrow: no error, no request of another host, no overflow, and search."""

import sys
from pathlib import Path

from chromium import PROGRAM, Browser

SITE = Path(__file__).parents[1] / "site"
SEARCH = """new Promise((done) => {
  const field = document.querySelector("[data-md-component=search-query]");
  document.querySelector("[data-md-toggle=search]").click();
  const look = (left) => {
    field.focus();
    field.value = "Krotov";
    field.dispatchEvent(new Event("keyup", { bubbles: true }));
    const found = document.querySelectorAll(".md-search-result__item").length;
    found || !left ? done(found) : setTimeout(look, 500, left - 1);
  };
  look(40);
})"""
WIDE = "document.documentElement.scrollWidth - innerWidth"


def main(*shots):
    """Look at all pages; those named are also written as pictures, page.html=picture.png."""
    if PROGRAM is None:
        return print("no Chromium on the path: the site was built, and not looked at")
    wanted = dict(shot.split("=") for shot in shots)
    browser, wrong = Browser(), []
    try:
        for page in sorted(SITE.rglob("*.html")):
            name = page.relative_to(SITE).as_posix()
            if name == "404.html":  # for a server, with addresses from its root
                continue
            for width, dark in ((400, False), (1280, True)):
                browser.open(page, width=width, dark=dark)
                wrong += [f"{name} at {width} px: {error}" for error in browser.errors]
                browser.errors.clear()
                if (over := browser.run(WIDE)) > 0:
                    wrong.append(f"{name} at {width} px is {over} px too wide")
                if name in wanted:
                    picture = Path(wanted[name])
                    browser.picture(picture.with_stem(f"{picture.stem}-{width}"))
        browser.open(SITE / "index.html")
        if not browser.run(SEARCH):
            wrong.append("the search finds nothing")
    finally:
        browser.close()
    return "\n".join(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) or 0)
