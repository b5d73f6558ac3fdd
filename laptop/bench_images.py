"""Images by the thousand for `make bench`: one made image of each kind, under new UIDs in every file."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage

from laptop import study

Kind: TypeAlias = Literal["CT", "CR", "small"]
_ROOT = "1.2.826.0.1.3680043.8.498"  # pydicom's own
_FIRST = 10**19  # numbers of one length, so that a UID can be replaced in the encoded file
# Where the UIDs and the patient's number end in an encoded file.
_HEADER_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Files of one series in a folder of their own."""

    folder: Path
    study: str
    series: str
    images: int
    bytes: int


def uid(number: int) -> str:
    return f"{_ROOT}.{_FIRST + number}"


def batch(kind: Kind, *, serial: int, images: int, folder: Path) -> Batch:
    """Write `images` files of that kind into `folder`; `serial` (below 10**6) tells one series' UIDs from another's."""
    folder.mkdir(parents=True)
    encoded = _encoded(kind)
    head, pixels = encoded[:_HEADER_BYTES], encoded[_HEADER_BYTES:]
    base = (serial + 1) * 10**6
    head = head.replace(uid(0).encode(), uid(base).encode()).replace(uid(1).encode(), uid(base + 1).encode())
    head = head.replace(b"BENCH-000000", f"BENCH-{serial:06d}".encode())
    for index in range(images):
        content = head.replace(uid(2).encode(), uid(base + 2 + index).encode()) + pixels
        (folder / f"{index:06d}.dcm").write_bytes(content)
    return Batch(folder=folder, study=uid(base), series=uid(base + 1), images=images, bytes=images * len(encoded))


@cache
def _encoded(kind: Kind) -> bytes:
    """One image as a file: study uid(0), series uid(1), image uid(2)."""
    image: Dataset = list(study.series(slices=3, seed="bench"))[1]
    image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = uid(0), uid(1), uid(2)
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
    image.PatientID, image.PatientName = "BENCH-000000", "Phantom^Bench"
    if kind == "CR":
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
        image.Modality = "CR"
        _give_pixels(image, 2048)
    if kind == "small":
        _give_pixels(image, 64)
    buffer = io.BytesIO()
    image.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _give_pixels(image: Dataset, size: int) -> None:
    """A square of that side, 16 bit: a slope with noise, which compresses as little as a real image."""
    noise = np.random.default_rng(size).normal(0, 12, (size, size))
    image.Rows = image.Columns = size
    image.PixelData = (np.linspace(0, 3000, size)[None, :] + noise).astype("<i2").tobytes()
