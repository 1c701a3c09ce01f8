from __future__ import annotations

import io

import pytest
from django.core.files.base import ContentFile
from PIL import Image, ImageCms, ImageFile

from signup import containers, exif, images
from signup.models import Avatar
from tests.harness import metadata, pictures

pytestmark = pytest.mark.any_database


def rendered(data: bytes) -> dict[int, Image.Image]:
    made = images.renditions(data, Avatar.SIZES)
    return {size: Image.open(io.BytesIO(content)) for size, content in made}


def is_near(pixel: tuple[int, ...], colour: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, colour, strict=False))


@pytest.mark.parametrize("case", [c for c in pictures.HOSTILE if c != "an empty file"])
def test_a_hostile_file_is_refused_with_its_reason(case: str) -> None:
    name, content, reason = pictures.HOSTILE[case]
    with pytest.raises(images.BadImage, match=reason):
        images.check(ContentFile(content, name))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("me.jpg", pictures.jpeg()),
        ("ME.JPEG", pictures.jpeg(progressive=True)),
        ("me.png", pictures.transparent_png()),
        ("me.gif", pictures.animation("GIF")),
        ("me.webp", pictures.animation("WEBP")),
        ("me.png", pictures.animation("PNG")),
        ("me.jpg", pictures.encoded(pictures.quarters(), "MPO", save_all=True)),
        ("me.jpg", pictures.encoded(pictures.quarters(mode="CMYK"), "JPEG")),
        ("me.png", pictures.encoded(pictures.quarters(1, 1), "PNG")),
        ("me.jpg", pictures.jpeg(1, 1)),
        ("me.jpg", pictures.jpeg(7, 600)),
        ("me.jpg", pictures.jpeg() + b"a film behind the picture" + b"\xff\xda" * 500),
    ],
)
def test_an_honest_file_is_accepted_and_rewound(name: str, content: bytes) -> None:
    upload = ContentFile(content, name)
    images.check(upload)
    assert upload.read() == content


def file_name(data: bytes) -> str:
    suffixes = {b"\xff\xd8": "jpg", b"\x89P": "png", b"GI": "gif", b"RI": "webp"}
    return f"me.{suffixes[data[:2]]}"


@pytest.mark.parametrize("case", metadata.WITH)
def test_no_decoder_sees_what_pixels_do_not_need(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = metadata.WITH[case]
    assert metadata.MARK in data
    seen = []
    unwatched = Image.open

    def watched(file: io.BytesIO, **options: object) -> Image.Image:
        seen.append(file.getvalue())
        return unwatched(file, **options)

    monkeypatch.setattr(Image, "open", watched)
    images.check(ContentFile(data, file_name(data)))
    list(images.renditions(data, (64,)))
    assert len(seen) == 2
    assert not any(metadata.MARK in each for each in seen)


@pytest.mark.parametrize("case", [*metadata.WITH, "a scan before a comment"])
def test_what_is_left_out_leaves_nothing_to_be_left_out(case: str) -> None:
    data = metadata.WITH.get(case, metadata.SCAN_BEFORE_COMMENT)
    stripped = containers.strip(data).data
    assert containers.strip(stripped).data == stripped


@pytest.mark.parametrize("case", metadata.BOMBS)
def test_metadata_in_any_quantity_are_neither_read_nor_logged(
    case: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read(*args: object) -> None:
        raise AssertionError("Pillow read EXIF")

    monkeypatch.setattr(Image.Exif, "load", read)
    caplog.set_level("INFO")
    data = metadata.BOMBS[case]
    images.check(ContentFile(data, file_name(data)))
    assert is_near(rendered(data)[64].convert("RGB").getpixel((5, 5)), upper_left(case))
    assert caplog.records == []


def upper_left(case: str) -> tuple[int, ...]:
    return (0, 0, 0) if case == "a webp of many frames" else pictures.RED


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("order", ["II", "MM"])
def test_the_picture_is_turned_upright_by_exif_of_any_format(kind: str, order: str) -> None:
    turned = Image.Exif()
    turned.endian = "<" if order == "II" else ">"
    turned[pictures.ORIENTATION] = 6
    data = pictures.encoded(pictures.quarters(), kind, exif=turned.tobytes())
    assert is_near(rendered(data)[64].convert("RGB").getpixel((5, 5)), pictures.BLUE)


TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
OTHERWISE = TURNED.replace(b"\x06", b"\x03")
WITHOUT = TURNED.replace(b"\x12\x01", b"\x0f\x01")


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([TURNED, b"the rest of a long block"], 6),
        ([TURNED, WITHOUT], 6),
        ([WITHOUT, TURNED], 6),
        ([b"", TURNED, OTHERWISE], 6),
        ([WITHOUT, WITHOUT], 1),
        ([b""] * exif.MAX_BLOCKS + [TURNED], 1),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_first_orientation_counts_of_exif_in_several_parts(
    kind: str, blocks: list[bytes], expected: int
) -> None:
    if kind == "PNG":
        data = pictures.png_with(*(pictures.png_chunk(b"eXIf", block) for block in blocks))
    else:
        payloads = [b"Exif\0\0" + block for block in blocks]
        segments = [
            b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload for payload in payloads
        ]
        data = b"\xff\xd8" + b"".join(segments) + pictures.jpeg()[2:]
    assert containers.strip(data).orientation == expected


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"II",
        b"II*\0\x08\0\0\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\x05\0",
        b"XX*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0",  # no byte order
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x06\0\0\0",  # a text
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0",  # no such way
    ],
)
def test_exif_without_an_orientation_means_upright(data: bytes) -> None:
    assert exif.orientation(data) == exif.orientation(b"Exif\0\0" + data) == exif.UPRIGHT


def test_a_bomb_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: Image.Image) -> None:
        raise AssertionError("a pixel was decoded")

    monkeypatch.setattr(Image.Image, "load", decode)
    bomb = pictures.bomb()
    assert len(bomb) < 10_000
    with pytest.raises(images.BadImage, match="too many pixels"):
        images.check(ContentFile(bomb, "me.png"))


def test_a_telephones_fifty_megapixels_pass_as_jpeg_and_no_more() -> None:
    images.check(ContentFile(pictures.jpeg(8192, 6100), "me.jpg"))
    with pytest.raises(images.BadImage, match="too many pixels"):
        images.check(ContentFile(pictures.jpeg(8192, 6200), "me.jpg"))


def test_what_must_be_decoded_whole_may_have_half_as_many() -> None:
    images.check(ContentFile(pictures.bomb(5000, 5000), "me.png"))
    with pytest.raises(images.BadImage, match="too many pixels"):
        images.check(ContentFile(pictures.bomb(5000, 5008), "me.png"))


def test_pictures_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    load = ImageFile.ImageFile.load

    def watched(self: ImageFile.ImageFile) -> object:
        seen.append(images._decoder.locked())
        return load(self)

    monkeypatch.setattr(ImageFile.ImageFile, "load", watched)
    images.check(ContentFile(pictures.jpeg(), "me.jpg"))
    assert seen
    assert all(seen)


def test_renditions_are_square_webp_of_every_size() -> None:
    made = rendered(pictures.jpeg())
    assert {size: image.size for size, image in made.items()} == {
        size: (size, size) for size in (64, 256, 512)
    }
    assert {image.format for image in made.values()} == {"WEBP"}


def test_a_picture_smaller_than_its_renditions_is_enlarged() -> None:
    assert rendered(pictures.jpeg(40, 30))[512].size == (512, 512)


@pytest.mark.parametrize(
    ("orientation", "top_left"),
    [(1, pictures.RED), (3, pictures.WHITE), (6, pictures.BLUE), (8, pictures.GREEN)],
)
def test_the_picture_is_turned_upright(orientation: int, top_left: tuple[int, ...]) -> None:
    image = rendered(pictures.jpeg_with_location(orientation))[256].convert("RGB")
    assert is_near(image.getpixel((20, 20)), top_left)


def test_location_comment_and_profile_are_gone() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for data in (
        pictures.jpeg_with_location(),
        pictures.encoded(pictures.quarters(), "PNG", icc_profile=profile),
    ):
        for image in rendered(data).values():
            assert not {"exif", "xmp", "icc_profile", "comment"} & set(image.info)
            assert len(image.getexif()) == 0


def test_transparency_stays() -> None:
    image = rendered(pictures.transparent_png())[256]
    assert image.mode == "RGBA"
    assert image.getpixel((128, 30))[3] == 0
    assert image.getpixel((128, 220))[3] == 255


def test_a_palette_with_a_transparent_colour_stays_transparent() -> None:
    image = Image.new("P", (100, 100), 0)
    image.putpalette([0, 0, 0, *pictures.RED])
    image.paste(1, (0, 50, 100, 100))
    made = rendered(pictures.encoded(image, "PNG", transparency=0))[64]
    assert made.getpixel((32, 5))[3] == 0
    assert is_near(made.getpixel((32, 58)), pictures.RED)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_shown(kind: str) -> None:
    image = rendered(pictures.animation(kind))[64]
    assert getattr(image, "n_frames", 1) == 1
    assert is_near(image.convert("RGB").getpixel((32, 32)), pictures.RED)


@pytest.mark.parametrize("mode", ["L", "LA", "CMYK", "I;16", "1", "P"])
def test_every_colour_mode_is_rendered(mode: str) -> None:
    if mode == "I;16":
        image = Image.new("I;16", (200, 200), 32768)
    elif mode == "P":
        image = pictures.quarters(200, 200).quantize(4)
    else:
        image = Image.new("L", (200, 200), 128).convert(mode)
    data = pictures.encoded(image, "JPEG" if mode == "CMYK" else "PNG")
    pixel = rendered(data)[64].convert("RGB").getpixel((5, 5))
    expected = {"1": (255, 255, 255), "P": pictures.RED}.get(mode, (128, 128, 128))
    if mode == "1":  # dithered grey
        assert pixel[0] == pixel[1] == pixel[2]
    else:
        assert is_near(pixel, expected)


def test_colours_are_converted_to_srgb_by_the_profile() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # sRGB with red and green swapped: who heeds it sees green where the numbers say red.
    swapped = srgb.replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ").replace(b"tmp_", b"gXYZ")
    image = Image.new("RGB", (64, 64), (200, 20, 20))
    for mode in ("RGB", "RGBA"):
        data = pictures.encoded(image.convert(mode), "PNG", icc_profile=swapped)
        assert is_near(rendered(data)[64].convert("RGB").getpixel((9, 9)), (20, 200, 20))


def test_a_broken_profile_leaves_the_colours_alone() -> None:
    data = pictures.encoded(
        Image.new("RGB", (64, 64), pictures.GREEN), "PNG", icc_profile=b"no profile"
    )
    assert is_near(rendered(data)[64].convert("RGB").getpixel((9, 9)), pictures.GREEN)


def test_exif_that_makes_no_sense_costs_nobody_a_picture() -> None:
    odd = Image.Exif()
    odd[pictures.ORIENTATION] = 6
    odd[0x0131] = "wide"  # a text, which then becomes the tag of the width, a number
    data = pictures.jpeg(exif=odd.tobytes().replace(b"\x01\x31\x00\x02", b"\x01\x00\x00\x02"))
    image = rendered(data)[64].convert("RGB")
    assert is_near(image.getpixel((5, 5)), pictures.BLUE)


def test_a_profile_that_holds_a_program_is_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: object, **options: object) -> None:
        raise AssertionError("the profile was run")

    monkeypatch.setattr(ImageCms, "profileToProfile", run)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb + b"mpet", srgb + bytes(containers.MAX_PROFILE_BYTES)):
        data = pictures.encoded(pictures.quarters(), "WEBP", icc_profile=profile)
        assert rendered(data)[64].size == (64, 64)


def test_too_little_memory_is_not_the_pictures_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(MemoryError):
        rendered(pictures.jpeg())


def test_what_cannot_be_decoded_is_a_bad_image() -> None:
    with pytest.raises(images.BadImage):
        rendered(pictures.jpeg()[:900])
