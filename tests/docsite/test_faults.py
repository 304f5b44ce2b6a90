"""The check behind the build sees what it is there to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from docsite.faults import faults

SOUND = """<head><link rel="stylesheet" href="a.css"><link rel="canonical" href="https://x.org/"></head>
<body><h2 id="here">H</h2><a href="#here">x</a> <a href="b.html#there">y</a>
<a href="https://elsewhere.org">z</a></body>"""


def write_site(folder: Path, body: str = "", css: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.css").write_text(
        "body { color: red; background: url(data:image/png;base64,) }" + css
    )
    (folder / "index.html").write_text(SOUND + body)
    (folder / "b.html").write_text('<p id="there">t</p>')
    return folder


def test_a_sound_site_has_none(tmp_path: Path) -> None:
    assert faults(write_site(tmp_path / "s")) == []


@pytest.mark.parametrize(
    ("body", "css", "words"),
    [
        ('<script src="https://unpkg.com/x.js"></script>', "", "fetches https://unpkg.com/x.js"),
        ('<link rel="stylesheet" href="//fonts.net/a">', "", "fetches //fonts.net/a"),
        ('<img src="http://x.org/a.png">', "", "fetches http://x.org/a.png"),
        ("", "@import 'https://fonts.net/b'", "fetches https://fonts.net/b"),
        ("", "i { src: url(https://x.org/f.woff) }", "fetches https://x.org/f.woff"),
        ('<pre class="mermaid">graph</pre>', "", "comes from a CDN"),
        ('<a href="c.html">c</a>', "", "c.html leads nowhere"),
        ('<img src="gone.png">', "", "gone.png leads nowhere"),
        ('<a href="b.html#gone">c</a>', "", "no such anchor"),
        ('<a href="#gone">c</a>', "", "no such anchor"),
    ],
)
def test_each_fault_is_seen(tmp_path: Path, body: str, css: str, words: str) -> None:
    (found,) = faults(write_site(tmp_path / "s", body, css))
    assert words in found
