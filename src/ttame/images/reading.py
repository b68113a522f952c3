"""Reading photos safely: whatever the file holds, a picture or one clear line."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from ttame.errors import ImageError, InputError
from ttame.images.bands import Bands, as_bands
from ttame.images.colour import from_array, to_rgb

MAX_PIXELS = 178_956_970
"""Largest photo that is decoded, in pixels: the size at which Pillow itself refuses."""

PhotoLike: TypeAlias = "str | Path | bytes | Image.Image | np.ndarray[Any, Any] | Tensor"

# Pillow's other formats start programs (EPS), match any bytes (TGA) or fill what is missing of a
# truncated file with grey (JPEG 2000).
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "MPO", "AVIF", "HEIF")


def read_image(
    source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, enough: int | None = None
) -> Image.Image:
    """Read a photo from a file or from bytes as 8-bit RGB; see :func:`to_rgb` for the colours.

    The first frame of an animation is taken, and EXIF orientation is applied.

    Args:
        source: Path of the file, or the file's content.
        max_pixels: Width times height above which the photo is refused before it is decoded.
        enough: Short side in pixels that suffices. A large JPEG is then decoded at 1/2, 1/4 or
            1/8, but to no less than twice this (faster; pixels differ a little). None: in full.

    Returns:
        A picture of mode RGB.

    Raises:
        ImageError: The file is missing, not a file, empty, not readable, not an image, too large
            or damaged.

    Example:
        >>> buffer = io.BytesIO()
        >>> Image.new("L", (3, 2), 7).save(buffer, "PNG")
        >>> read_image(buffer.getvalue()).getpixel((0, 0))
        (7, 7, 7)
    """
    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else repr(str(source))
    with _stream(source, name) as stream, _opened(stream, name) as image:
        if image.width * image.height > max_pixels:
            raise ImageError(
                f"photo {name} has {image.width} x {image.height} pixels, more than the limit of "
                f"{max_pixels}; make it smaller or raise max_pixels"
            )
        if enough is not None:
            image.draft(None, (2 * enough, 2 * enough))
        return _decoded(image, name)


def as_photo(
    photo: PhotoLike, *, max_pixels: int = MAX_PIXELS, channels: int = 3
) -> Image.Image | Bands:
    """Turn whatever holds one photo into 8-bit RGB.

    Args:
        photo: A path, a file's bytes, a Pillow image of any mode, a numpy array (H, W) or
            (H, W, C), or a torch tensor (C, H, W), with C = 1, 3 or 4 (alpha, composited on
            white). Arrays and tensors hold uint8, uint16 or floating point in [0, 1].
        max_pixels: Limit for files and bytes, as in :func:`read_image`.
        channels: Channels that the classifier reads. Other numbers than 1 and 3 need arrays
            (H, W, C) or tensors (C, H, W) of so many, see :func:`ttame.images.bands.as_bands`.

    Returns:
        A picture of mode RGB; bands where the classifier reads neither 1 nor 3 channels.

    Raises:
        ImageError: A file, bytes or a Pillow image cannot be read, or lacks the channels.
        InputError: Another kind of object, or a wrong shape, type or range.

    Example:
        >>> import torch
        >>> as_photo(torch.ones(3, 4, 6)).size
        (6, 4)
    """
    if channels not in (1, 3):
        return as_bands(photo, channels)
    if isinstance(photo, (str, Path, bytes)):
        return read_image(photo, max_pixels=max_pixels)
    if isinstance(photo, Image.Image):
        return _decoded(photo, repr(getattr(photo, "filename", "") or "in memory"))
    if isinstance(photo, Tensor):
        return _from_tensor(photo)
    if isinstance(photo, np.ndarray):
        return from_array(photo)
    raise InputError(
        "expected a photo as path, bytes, Pillow image, numpy array or torch tensor, "
        f"got {type(photo).__name__}"
    )


def _from_tensor(tensor: Tensor) -> Image.Image:
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4):
        raise InputError(
            f"expected one photo (C, H, W) with C = 1, 3 or 4, got shape {tuple(tensor.shape)}; "
            "reorder the axes, pass photos of a batch one by one, grey photos as (1, H, W)"
        )
    values = tensor.detach().cpu().permute(1, 2, 0)
    return from_array((values.float() if values.is_floating_point() else values).numpy())


def _stream(source: str | Path | bytes, name: str) -> IO[bytes]:
    if isinstance(source, bytes):
        if not source:
            raise ImageError("photo is empty: got 0 bytes; pass the content of an image file")
        return io.BytesIO(source)
    path = Path(source).expanduser()
    try:
        status = path.stat()  # asked before opening, as opening a pipe would wait for its writer
        stream = path.open("rb") if stat.S_ISREG(status.st_mode) and status.st_size else None
    except FileNotFoundError:
        raise ImageError(f"photo {name} does not exist; check the path") from None
    except PermissionError:
        raise ImageError(f"photo {name} may not be read; check its permissions") from None
    except (OSError, ValueError) as error:  # names too long, circular links, zero bytes in names
        raise ImageError(
            f"photo {name} cannot be opened ({_line(error)}); check the path"
        ) from None
    if stream is not None:
        return stream
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"photo {name} is a folder; name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"photo {name} is not a regular file; name an image file")
    raise ImageError(f"photo {name} is empty (0 bytes); copy or download it again")


def _opened(stream: IO[bytes], name: str) -> Image.Image:
    Image.init()  # registers what this Pillow can read; AVIF and HEIF are not everywhere
    formats = [form for form in _FORMATS if form in Image.OPEN]
    try:
        return Image.open(stream, formats=formats)
    except UnidentifiedImageError:
        raise ImageError(
            f"photo {name} is truncated or not an image in a known format ({', '.join(formats)}); "
            "copy it again or save it as JPEG or PNG"
        ) from None
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"photo {name} is larger than Pillow allows ({_line(error)}); make it smaller"
        ) from None
    except Exception as error:  # damaged headers raise whatever the format's reader stumbles on
        raise ImageError(f"photo {name} is damaged ({_line(error)}); copy it again") from None


def _decoded(image: Image.Image, name: str) -> Image.Image:
    try:
        return to_rgb(image)
    except ImageError as error:
        raise ImageError(f"photo {name}: {error}") from None
    except Exception as error:  # damaged pixels raise whatever the decoder stumbles on
        raise ImageError(
            f"photo {name} is truncated or damaged ({_line(error)}); copy or download it again"
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
