"""docs/images/architecture.svg belongs to its source, and shows it where GitHub and others put pictures."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docs/images/architecture.mmd"
PICTURE = SOURCE.with_suffix(".svg")


def test_the_picture_was_drawn_from_the_source_as_it_is_now() -> None:
    digest = sha256(SOURCE.read_bytes()).hexdigest()
    assert PICTURE.read_text(encoding="utf-8").startswith(f"<!-- source: {digest} -->"), "draw it anew: docs/images/draw"


def test_every_word_of_the_source_is_text_in_the_picture() -> None:
    root = ET.fromstring(PICTURE.read_text(encoding="utf-8"))  # noqa: S314 - a file of this repository
    shown = re.sub(r"\s+", "", "".join("".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text")))
    labels = re.findall(r'"([^"]+)"', SOURCE.read_text(encoding="utf-8"))
    assert len(labels) >= 10
    assert [part for label in labels for part in label.split("<br/>") if re.sub(r"\s+", "", part) not in shown] == []


def test_nothing_in_the_picture_needs_more_than_a_picture_may() -> None:
    """An <img> runs no script, fetches nothing, and shows no HTML."""
    text = PICTURE.read_text(encoding="utf-8")
    assert not re.findall(r"<foreignObject|<script|@import|url\(['\"]?(?!#)|href=['\"](?!#)", text)
