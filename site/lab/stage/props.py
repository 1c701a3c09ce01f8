"""What is worked on: a picture of 12 megapixels, and files full of words."""

from __future__ import annotations

import random
from pathlib import Path

from PIL import Image

from lab import sizes

WORDS = [
    "nobody", "waits", "for", "slow", "work", "a", "row", "is", "written", "and", "the", "page",
    "answers", "at", "once", "while", "a", "worker", "does", "the", "rest",
]  # fmt: skip


def make(folder: Path) -> None:
    """Put a picture and the files into an empty folder: about 25 MB."""
    _picture(folder / "picture.jpg")
    (folder / "files").mkdir()
    chance = random.Random(1)  # noqa: S311  the same files each time, and no secrets
    for number in range(sizes.FILES):
        text = " ".join(chance.choices(WORDS, k=sizes.FILE_BYTES // 3))
        (folder / "files" / f"{number:03}.txt").write_text(text[: sizes.FILE_BYTES])


def _picture(path: Path) -> None:
    """A picture with as much detail as a photograph: a gradient, and noise upon it."""
    size = (sizes.PICTURE_WIDTH, sizes.PICTURE_HEIGHT)
    gradient = Image.linear_gradient("L").resize(size)
    noise = Image.effect_noise(size, 24)
    Image.merge("RGB", [gradient, noise, Image.blend(gradient, noise, 0.5)]).save(path, quality=85)
