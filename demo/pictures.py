"""`make pictures`: screenshots of the inspector on the demo's model, for README and docs.

They show what a server answers, in Chromium (Debian: `apt-get install chromium`).
"""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from cyclopts import App
from PIL import Image

from demo.commands import main, say, serving
from demo.servers import reward_server

Scheme = Literal["light", "dark"]

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1360, 860
TIMEOUT_MS = 300_000
NUM_COLOURS = 256
"""A page of text and flat colours needs no more, and its picture is a third as large."""

app = App(name="python -m demo.pictures")


@app.default
def pictures(*, assets: Path = Path("build/demo"), out: Path = Path("docs/pictures")) -> int:
    """Photograph the inspector, light and dark, and its heat map.

    Parameters
    ----------
    assets
        Folder that `python -m demo.assets` made.
    out
        Folder of the PNG files.
    """
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        sys.exit("no browser: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    say(f"photographing the inspector on {assets} in {path}, light and dark, into {out}")
    with (
        TemporaryDirectory() as folder,
        serving(reward_server(assets), Path(folder) / "reward.log") as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"], timeout=TIMEOUT_MS
        )
        schemes: tuple[Scheme, ...] = ("light", "dark")
        for scheme in schemes:
            photograph(browser, url, scheme, out)
        browser.close()
    return 0


def photograph(browser: Any, url: str, scheme: Scheme, out: Path) -> None:
    """The inspector as it opens, and below it the tokens of the choice of R."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(url)
    page.locator(".status", has_text="ready").wait_for()
    page.locator(".ranking tr.winner").wait_for()
    page.wait_for_timeout(500)
    save(page.screenshot(), out / f"inspector-{scheme}.png")
    page.locator(".ranking tr", has=page.locator(".tag.base")).locator(".pick").click()
    save(page.locator(".tokens-of").screenshot(), out / f"tokens-{scheme}.png")
    page.close()


def save(png: bytes, path: Path) -> None:
    """Writes a PNG with few colours."""
    image = Image.open(BytesIO(png)).convert("RGB")
    # Median cut would drop rare colours, such as that of the dot beside "ready".
    few = image.quantize(
        NUM_COLOURS, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE
    )
    few.save(path, optimize=True)
    say(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main(app)
