"""Images to send: the CT and MR that come with pydicom, and a made CT series of a phantom. No real patient is in them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIZE = 512  # pixels along each side of a slice
SLICES = 200


def samples() -> Iterator[Dataset]:
    """pydicom's small CT and MR image."""
    for name in ("CT_small.dcm", "MR_small.dcm"):
        path = get_testdata_file(name)
        if path is None:
            raise FileNotFoundError(f"pydicom came without {name}")
        yield pydicom.dcmread(path)


def series(*, slices: int = SLICES, seed: str = "phantom", patient: str = "Phantom^Demo") -> Iterator[Dataset]:
    """A CT series of `slices` images of 512 x 512 x 16 bit, 512 KiB each; the same seed gives the same bytes and UIDs."""
    study = generate_uid(entropy_srcs=[seed, "study"])
    one_series = generate_uid(entropy_srcs=[seed, "series"])
    frame = generate_uid(entropy_srcs=[seed, "frame"])
    for index in range(slices):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.SOPClassUID = CTImageStorage
        image.SOPInstanceUID = generate_uid(entropy_srcs=[seed, "slice", str(index)])
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = patient, f"DEMO-{seed}", "19700101", "O"
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, one_series, frame
        image.StudyDate, image.StudyTime, image.AccessionNumber, image.StudyID = "20260101", "120000", "A-1", "1"
        image.StudyDescription, image.SeriesDescription = "Made study", "Ellipsoids"
        image.Modality, image.Manufacturer, image.SeriesNumber, image.InstanceNumber = "CT", "None", 1, index + 1
        image.PixelSpacing, image.SliceThickness = [0.7, 0.7], 1.5
        image.ImagePositionPatient, image.ImageOrientationPatient = [-179.2, -179.2, 1.5 * index], [1, 0, 0, 0, 1, 0]
        image.Rows = image.Columns = SIZE
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
        image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 1
        image.RescaleIntercept, image.RescaleSlope, image.WindowCenter, image.WindowWidth = 0, 1, 40, 400
        image.PixelData = _slice(index, slices).tobytes()
        yield image


# centre (x, y, z) and half axes in the unit cube, and Hounsfield units: a body with lungs, heart, spine and a nodule.
_ELLIPSOIDS = (
    ((0.00, 0.00, 0.0), (0.80, 0.60, 1.4), 40),
    ((-0.38, 0.00, 0.0), (0.28, 0.42, 0.9), -800),
    ((0.38, 0.00, 0.0), (0.28, 0.42, 0.9), -800),
    ((0.10, -0.10, -0.1), (0.22, 0.20, 0.4), 60),
    ((0.00, 0.38, 0.0), (0.09, 0.09, 1.3), 700),
    ((-0.42, -0.12, 0.3), (0.06, 0.06, 0.1), 90),
)


def _slice(index: int, slices: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    axis = np.linspace(-1, 1, SIZE)
    z = 2 * index / max(slices - 1, 1) - 1
    pixels = np.full((SIZE, SIZE), -1000.0)
    for (x0, y0, z0), (a, b, c), value in _ELLIPSOIDS:
        inside = ((axis - x0) / a)[None, :] ** 2 + ((axis - y0) / b)[:, None] ** 2 + ((z - z0) / c) ** 2 < 1
        pixels[inside] = value
    noise = np.random.default_rng(index).normal(0, 12, pixels.shape)
    return np.ascontiguousarray(pixels + noise).astype("<i2")
