"""`make docs`: builds the documentation as a site that needs no network.

    python -m docsite.build --out build/site

Zensical makes the pages, and its warnings are errors. What it does not check is checked behind it
(`docsite.faults`). The site is served by any file server; without one, only its search is missing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cyclopts import App

from docsite.faults import faults
from docsite.llms import llms_txt
from docsite.pages import ROOT, gather, title_and_summary

PAGES, SITE, LLMS = "pages", "site", "llms.txt"

app = App(name="python -m docsite.build")


@app.default
def build(*, out: Path = Path("build/site")) -> int:
    """Build the site.

    Parameters
    ----------
    out
        Folder to write. A site that it held before is removed.
    """
    if out.exists() and any(out.iterdir()) and not (out / LLMS).is_file():
        print(f"--out {out}: holds something that is no site; give another folder", file=sys.stderr)
        return 2
    with TemporaryDirectory() as work:
        folder = Path(work)
        gather(folder / PAGES)
        project = configuration(folder / PAGES)
        if not run_zensical(folder, project):
            return 1
        site = folder / SITE
        (site / LLMS).write_text(llms_txt(project, folder / PAGES), encoding="utf-8")
        for page in (folder / PAGES).rglob("*.md"):
            shutil.copy(page, site / page.relative_to(folder / PAGES))
        found = faults(site)
        if found:
            print("\n".join(found), file=sys.stderr)
            return 1
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(site, out)
    print(f"{out}: {len(list(out.rglob('*.html')))} pages; python -m http.server --directory {out}")
    return 0


def run_zensical(folder: Path, project: dict[str, Any]) -> bool:
    """Builds the pages in `folder`, and says whether there was nothing to warn of."""
    (folder / "zensical.yml").write_text(json.dumps(project), encoding="utf-8")  # JSON is YAML
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file"]
    return subprocess.run([*command, "zensical.yml"], cwd=folder, check=False).returncode == 0


def configuration(pages: Path) -> dict[str, Any]:
    """zensical.toml, with the folders of this build and with the pages of folders in `nav`."""
    project: dict[str, Any] = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]
    nav = [
        {name: pages_of(there, pages) for name, there in section.items()}
        for section in project["nav"]
    ]
    return project | {"docs_dir": PAGES, "site_dir": SITE, "nav": nav}


def pages_of(entry: str | list[str], pages: Path) -> str | list[Any]:
    """What stands in the navigation for an entry of zensical.toml."""
    if isinstance(entry, str):
        return entry
    found: list[Any] = []
    for name in entry:
        if not name.endswith("/"):
            found.append(name)
        elif (pages / name).is_dir():
            files = sorted((pages / name).glob("*.md"), key=lambda one: (one.stem != "index", one))
            title = title_and_summary(files[0].read_text("utf-8"))[0]
            found.append({title: [one.relative_to(pages).as_posix() for one in files]})
    return found


def main() -> None:
    sys.exit(app())


if __name__ == "__main__":
    main()
