"""Pictures from strangers: proving that one is whole, and making the site's own of it.

An upload is hostile until proven an image. Only four decoders are ever asked, the header
is judged before a pixel is decoded, and whatever a decoder raises means "not an image".
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

from django.core.files import File
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

logger = logging.getLogger(__name__)

MAX_BYTES = 10 * 1024**2
# What a decoder needs at most, measured at the limit: a progressive JPEG 290 MB, since it is
# decoded at a reduced size; a WebP 390 MB, three times its pixels, for a file of 1 kB.
# Telephones write JPEG of 48 megapixels; nobody honest writes the others so large.
MAX_PIXELS = 25_000_000
MAX_JPEG_PIXELS = 50_000_000
# Cameras write ten scans into a progressive JPEG. Each is a pass over the whole picture,
# so a file of a thousand tiny ones keeps a processor busy for minutes.
MAX_SCANS = 100

EXTENSIONS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
}
# What a file picker offers; the server decides.
ACCEPT = "image/jpeg,image/png,image/gif,image/webp"

SCAN_MARKER = b"\xff\xda"  # never part of a JPEG's pixels: there 0xff is followed by 0x00

# One picture at a time: each web request has a thread of its own, and each of them may need
# as much memory as said above.
_decoder = threading.Lock()
_srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


class BadImage(ValueError):
    """The upload is not a picture that this site takes; the text says why, for its owner."""


def check(upload: File) -> None:
    """Prove that an upload is a whole picture of an accepted kind.

    Args:
        upload: the file with its name; it is read, and rewound afterwards.

    Raises:
        BadImage: it is too large, of another kind, not what its name says, or broken.
    """
    if (upload.size or 0) > MAX_BYTES:
        raise BadImage(
            f"This file is {upload.size / 1024**2:.1f} MB large. "
            f"Choose a picture of at most {MAX_BYTES // 1024**2} MB."
        )
    with _opened(upload) as image:
        kind = _kind(image)
        _check_name(upload.name or "", kind)
        _check_pixels(image, upload)
        if kind == "JPEG":
            # Decoding at an eighth of the size still reads every byte, and is what makes
            # the proof cheap enough for a request.
            image.draft("L", (image.width // 8, image.height // 8))
        with _decoder:
            image.load()


def renditions(original: File, sizes: tuple[int, ...]) -> Iterator[tuple[int, bytes]]:
    """Make square WebP pictures, the largest first, without any metadata.

    The middle of the first frame is taken, turned upright as EXIF says, its colours
    converted to sRGB; transparency stays.

    Yields:
        The edge in pixels, and the file's content.

    Raises:
        BadImage: the original cannot be decoded.
    """
    largest = max(sizes)
    with _opened(original) as image:
        _check_pixels(image, original)
        # Twice the edge leaves the resampling filter enough to work with.
        image.draft("RGB", (largest * 2, largest * 2))
        square = _upright_square(image, largest)
    for size in sorted(sizes, reverse=True):
        yield size, _webp(square.resize((size, size), Image.Resampling.LANCZOS))


@contextmanager
def _opened(file: File) -> Iterator[Image.Image]:
    """The image in a file. Whatever goes wrong inside is a BadImage; the file is rewound."""
    file.seek(0)
    try:
        with Image.open(file, formats=list(EXTENSIONS)) as image:
            yield image
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("This is not a picture. Choose a JPEG, PNG, GIF or WebP file.") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many_pixels() from error
    # Pillow's decoders raise whatever their C libraries and parsers come upon: OSError,
    # SyntaxError, ValueError, struct.error, IndexError, MemoryError and others.
    except Exception as error:
        logger.info("undecodable upload: %r", error)
        raise BadImage("This picture is damaged or incomplete. Choose another file.") from error
    finally:
        if not file.closed:
            file.seek(0)


def _kind(image: Image.Image) -> str:
    # A JPEG with a second picture behind it, as many telephones write, opens as MPO.
    return "JPEG" if image.format == "MPO" else str(image.format)


def _check_name(name: str, kind: str) -> None:
    suffix = PurePath(name).suffix.lower()
    if suffix not in EXTENSIONS[kind]:
        raise BadImage(
            f"This is a {kind} picture, but its name ends in “{suffix[:10]}”. "
            f"Rename it to end in {EXTENSIONS[kind][0]}, or choose another file."
        )


def _check_pixels(image: Image.Image, file: File) -> None:
    is_jpeg = _kind(image) == "JPEG"
    if image.width * image.height > (MAX_JPEG_PIXELS if is_jpeg else MAX_PIXELS):
        raise _too_many_pixels()
    if is_jpeg:
        position = file.tell()
        file.seek(0)
        scans = file.read().count(SCAN_MARKER)
        file.seek(position)
        if scans > MAX_SCANS:
            raise BadImage("This JPEG is built in an unusual way. Save it again and retry.")


def _too_many_pixels() -> BadImage:
    return BadImage(
        f"This picture has too many pixels. Choose one of at most {MAX_PIXELS // 10**6} "
        f"megapixels (a JPEG: {MAX_JPEG_PIXELS // 10**6})."
    )


def _upright_square(image: Image.Image, edge: int) -> Image.Image:
    """The middle of the picture, ``edge`` pixels wide and high, in sRGB or sRGB with alpha."""
    profile = image.info.get("icc_profile")
    ImageOps.exif_transpose(image, in_place=True)
    square = ImageOps.fit(_resizable(image), (edge, edge), Image.Resampling.LANCZOS)
    if profile:
        square = _in_srgb(square, profile)
    return square.convert("RGBA" if square.mode in ("RGBA", "LA") else "RGB")


def _resizable(image: Image.Image) -> Image.Image:
    """The picture in a mode that resampling handles: no palette, no 16-bit grey."""
    if image.mode.startswith("I"):
        return image.point(lambda value: value / 256).convert("L")
    if image.has_transparency_data:
        return image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    if image.mode in ("RGB", "L", "CMYK"):
        return image
    return image.convert("RGB")


def _in_srgb(square: Image.Image, profile: bytes) -> Image.Image:
    alpha = square.getchannel("A") if square.mode in ("RGBA", "LA") else None
    colours = square.convert("L" if square.mode == "LA" else "RGB") if alpha else square
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(colours, source, _srgb, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return square  # a broken profile, or one of another colour space: colours as they are
    if converted is not None and alpha:
        converted.putalpha(alpha)
    return converted or square


def _webp(image: Image.Image) -> bytes:
    image.info.clear()  # EXIF, XMP, ICC, comments: whatever an encoder might carry over
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=4)
    return buffer.getvalue()
