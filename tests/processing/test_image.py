import contextlib
import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from paligemma2.errors import ConfigError, ImageError, InputError
from paligemma2.processing.image import (
    BIG_VISION,
    BIG_VISION_NO_ANTIALIAS,
    HF,
    VIDEO_FRAME,
    Resize,
    image_to_array,
    open_image,
    scale_pixels,
)
from paligemma2.types import FilePart

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
ORIENTATION = 0x0112


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width, height):
    """A PNG of this size without its pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def png_bomb(side):
    """A complete grey PNG of side × side equal pixels, small on disk."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))]
    chunks.append((b"IDAT", zlib.compress(bytes((side // 8 + 1) * side), 9)))
    chunks.append((b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def test_every_kind_of_source_gives_the_same_pixels(tmp_path):
    image = Image.fromarray(PIXELS)
    path = tmp_path / "image.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), image, PIXELS):
        np.testing.assert_array_equal(np.asarray(open_image(source)), PIXELS)


def test_arrays_may_be_grey_or_have_alpha():
    grey = PIXELS[:, :, 0]
    np.testing.assert_array_equal(np.asarray(open_image(grey)), np.stack([grey] * 3, axis=2))
    with_alpha = np.concatenate([PIXELS, PIXELS[:, :, :1]], axis=2)
    np.testing.assert_array_equal(np.asarray(open_image(with_alpha)), PIXELS)


@pytest.mark.parametrize(
    "array",
    [PIXELS.astype(np.float32), PIXELS[None], PIXELS[:, :, :2], PIXELS[0, 0], np.zeros((0, 5, 3), np.uint8)],
    ids=["float", "four dimensions", "two channels", "one dimension", "empty"],
)
def test_arrays_that_are_no_image_are_refused(array):
    with pytest.raises(ImageError, match="array"):
        open_image(array)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("as_bytes", [True, False])
def test_exif_orientation_is_applied(orientation, as_bytes):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encoded(Image.fromarray(PIXELS), exif=exif)
    upright = {
        1: PIXELS,
        2: PIXELS[:, ::-1],
        3: PIXELS[::-1, ::-1],
        4: PIXELS[::-1],
        5: PIXELS.transpose(1, 0, 2),
        6: np.rot90(PIXELS, -1),
        7: PIXELS[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PIXELS),
    }[orientation]
    source = data if as_bytes else Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(np.asarray(open_image(source)), upright)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "RGBa"])
def test_every_mode_becomes_what_pillow_makes_of_it(mode):
    source = Image.fromarray(PIXELS)
    source = source.convert({"RGBa": "RGBA"}.get(mode, mode)).convert(mode)
    expected = source.convert({"RGBa": "RGBA"}.get(mode, mode)).convert("RGB")
    np.testing.assert_array_equal(np.asarray(open_image(source)), np.asarray(expected))


def test_alpha_is_dropped_and_not_blended():
    clear = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    assert open_image(encoded(clear)).getpixel((0, 0)) == (10, 20, 30)


@pytest.mark.parametrize("transparency", [3, bytes(range(256))])
def test_a_palette_with_transparency_keeps_its_colours(transparency):
    palette = Image.fromarray(PIXELS).quantize(200)
    data = encoded(palette, transparency=transparency)
    np.testing.assert_array_equal(np.asarray(open_image(data)), np.asarray(palette.convert("RGB")))


def test_sixteen_bit_grey_keeps_its_high_byte():
    values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    data = encoded(Image.fromarray(values))
    np.testing.assert_array_equal(np.asarray(open_image(data))[:, :, 0], values >> 8)


def test_postscript_is_refused_before_it_is_run():
    with pytest.raises(ImageError, match="PostScript"):
        open_image(encoded(Image.fromarray(PIXELS), "EPS"))


def test_floating_point_pixels_are_refused():
    with pytest.raises(ImageError, match="floating-point"):
        open_image(Image.fromarray(np.zeros((4, 4), np.float32)))


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_the_first_of_several_frames_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert open_image(data).getpixel((4, 4)) == (255, 0, 0)


@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", b"<svg xmlns='http://www.w3.org/2000/svg'/>", png_header(8, 8)[:20]],
    ids=["empty", "text", "svg", "half a header"],
)
def test_bytes_that_are_no_image_are_refused(data):
    with pytest.raises(ImageError, match=f"{len(data)} bytes: not a readable image"):
        open_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused_by_name(tmp_path, kind, keep):
    data = encoded(Image.fromarray(PIXELS), kind)
    path = tmp_path / "cut"
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ImageError, match="cut: ") as caught:
        open_image(path)
    assert caught.value.hint


@pytest.mark.parametrize("seed", range(40))
def test_damaged_bytes_give_a_picture_or_an_image_error(seed):
    rng = np.random.default_rng(seed)
    data = bytearray(encoded(Image.fromarray(PIXELS), ["PNG", "JPEG", "GIF", "TIFF", "BMP"][seed % 5]))
    for place in rng.integers(0, len(data), 8):
        data[place] = rng.integers(0, 256)
    with contextlib.suppress(ImageError):
        assert open_image(bytes(data)).mode == "RGB"


def test_missing_files_folders_and_strange_paths_are_named(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        open_image(tmp_path / "absent.png")
    with pytest.raises(ImageError, match="not a file"):
        open_image(tmp_path)
    with pytest.raises(ImageError):
        open_image("a\0b")
    with pytest.raises(ImageError):
        open_image("x" * 5000)
    with pytest.raises(ImageError, match="NoneType is not an image"):
        open_image(None)


@pytest.mark.parametrize("size", [(0, 8), (8, 0)])
def test_an_image_without_pixels_is_refused(size):
    with pytest.raises(ImageError, match=r"pixels|not a readable"):
        open_image(png_header(*size))
    with pytest.raises(ImageError, match="nothing to see"):
        open_image(Image.new("RGB", size))


@pytest.mark.parametrize("size", [(8000, 8000), (10_000, 10_000), (2**31 - 1, 2**31 - 1)])
def test_too_many_pixels_are_refused_from_the_header(size):
    with pytest.raises(ImageError, match=r"limit of 50000000|limit is 50000000|not a readable"):
        open_image(png_header(*size))


def test_a_decompression_bomb_is_refused_before_it_unfolds():
    data = png_bomb(9000)
    assert len(data) < 20_000
    tracemalloc.start()
    with pytest.raises(ImageError, match="9000 × 9000 = 81000000 pixels, the limit is 50000000"):
        open_image(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_limits_can_be_chosen_and_bind_every_source(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(PIXELS).save(path)
    for source in (path, path.read_bytes(), PIXELS, Image.fromarray(PIXELS)):
        assert open_image(source, max_pixels=1200).size == (40, 30)
        with pytest.raises(ImageError, match="1200 pixels, the limit is 1199"):
            open_image(source, max_pixels=1199)
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageError, match="bytes, the limit is 100"):
            open_image(source, max_file_bytes=100)


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1)])
def test_extreme_shapes_are_allowed(size):
    for resize in (HF, BIG_VISION, BIG_VISION_NO_ANTIALIAS):
        values = image_to_array(Image.new("RGB", size, (255, 0, 51)), 14, resize)
        np.testing.assert_allclose(values[:, 3, 5], [1, -1, -0.6], atol=1e-6)


@pytest.mark.parametrize(
    ("width", "height", "size"), [(612, 425, 224), (100, 37, 224), (224, 224, 224), (901, 30, 56)]
)
def test_hf_equals_the_pillow_processor_of_transformers(width, height, size):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    reference = SiglipImageProcessorPil(
        size={"height": size, "width": size}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    expected = reference(Image.fromarray(pixels))["pixel_values"][0]
    ours = image_to_array(open_image(pixels), size, HF)
    assert ours.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(ours, expected)


def bilinear(pixels, size, antialias):
    """tf.image.resize with half-pixel centres, written out with weights in float64."""

    def weights(length):
        scale = length / size
        reach = max(scale, 1.0) if antialias else 1.0
        centres = (np.arange(size) + 0.5) * scale - 0.5
        if not antialias:
            low = np.floor(centres)
            matrix = np.zeros((size, length))
            for i, (centre, left) in enumerate(zip(centres, low, strict=True)):
                matrix[i, int(np.clip(left, 0, length - 1))] += 1 - (centre - left)
                matrix[i, int(np.clip(left + 1, 0, length - 1))] += centre - left
            return matrix
        matrix = np.maximum(0, 1 - np.abs(np.arange(length)[None] - centres[:, None]) / reach)
        return matrix / matrix.sum(axis=1, keepdims=True)

    height, width, _ = pixels.shape
    return np.einsum("yh,hwc,xw->yxc", weights(height), pixels.astype(np.float64), weights(width))


@pytest.mark.parametrize("resize", [BIG_VISION, BIG_VISION_NO_ANTIALIAS])
@pytest.mark.parametrize(("width", "height"), [(61, 43), (9, 13), (28, 28), (200, 7)])
def test_big_vision_is_bilinear_cut_to_whole_numbers(resize, width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exact = bilinear(pixels, 28, resize.antialias)
    ours = np.rint((image_to_array(open_image(pixels), 28, resize).transpose(1, 2, 0) + 1) * 127.5)
    far_from_whole = np.abs(exact - np.rint(exact)) > 2e-3
    np.testing.assert_array_equal(ours[far_from_whole], np.floor(exact[far_from_whole]))
    np.testing.assert_allclose(ours[~far_from_whole], np.rint(exact[~far_from_whole]), atol=1)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("width", "height"), [(61, 43), (9, 13), (28, 28), (200, 7), (1280, 720)])
def test_a_resize_that_keeps_fractions_is_bilinear_and_not_rounded(antialias, width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    exact = 2 * (bilinear(pixels, 28, antialias) / 255) - 1
    ours = image_to_array(open_image(pixels), 28, Resize("bilinear", antialias, keep_fraction=True))
    # A place in a wide picture is off by 1e-4 pixels in float32; steps of uint8 are 8e-3.
    np.testing.assert_allclose(ours.transpose(1, 2, 0), exact, atol=3e-4)
    assert ours.dtype == np.float32
    assert ours.flags.c_contiguous


def test_frames_of_videos_are_resized_without_antialias_and_keep_fractions():
    assert Resize("bilinear", antialias=False, keep_fraction=True) == VIDEO_FRAME


@pytest.mark.parametrize("resize", [HF, BIG_VISION, BIG_VISION_NO_ANTIALIAS])
def test_one_colour_stays_that_colour(resize):
    for value in (0, 1, 77, 200, 254, 255):
        image = Image.new("RGB", (617, 431), (value,) * 3)
        expected = scale_pixels(np.full((224, 224, 3), value, np.uint8))
        np.testing.assert_array_equal(image_to_array(image, 224, resize), expected)


def test_a_resize_that_no_convention_has_is_refused():
    with pytest.raises(ConfigError, match="always resizes with antialias"):
        Resize("bicubic", antialias=False, convention="hugging_face")
    with pytest.raises(ConfigError, match="to whole numbers"):
        Resize("bicubic", convention="hugging_face", keep_fraction=True)
    with pytest.raises(ConfigError, match="no bicubic"):
        Resize("bicubic")


def test_an_image_error_is_an_input_error():
    assert issubclass(ImageError, InputError)


def test_a_part_of_a_file_is_a_picture(tmp_path):
    picture = encoded(Image.new("RGB", (5, 4), (10, 200, 30)))
    file = tmp_path / "shard"
    file.write_bytes(b"before" + picture + b"after")
    part = FilePart(file, 6, len(picture))
    assert open_image(part).tobytes() == open_image(picture).tobytes()
    for broken in (FilePart(file, 7, len(picture)), FilePart(file, 6, 30), FilePart(file, 10**6, 50)):
        with pytest.raises(ImageError, match=f"shard, {broken.size} bytes at {broken.offset}: "):
            open_image(broken)
    with pytest.raises(ImageError, match="cannot be read"):
        open_image(FilePart(tmp_path / "gone", 0, 5))
    with pytest.raises(ImageError, match="the limit is 10"):
        open_image(part, max_file_bytes=10)
