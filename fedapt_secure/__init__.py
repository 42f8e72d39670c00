"""Federated adaptive prompt tuning of CLIP (FedAPT, AAAI 2024), private and provable.

What all parties share, and the command line. Rooms, in the order in which they may import each other:
`process`, `log` and `privacy`, `config`, `protocol` and `audit` (none of these needs torch), `learning`,
`inference`; above server and client, `simulate` and `cli`. ``docs/architecture.md`` is the map.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to load, and an auditor has none
    import os

    from fedapt_secure.config.reading import ReadingOptions
    from fedapt_secure.inference.predictor import Model

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def load(
    bundle: "str | os.PathLike[str]",
    *,
    pretrained: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int | None = None,
    reading: "ReadingOptions | None" = None,
) -> "Model":
    """Load a finished model: ``fedapt_secure.load("model.safetensors").predict(images)``.

    Args:
        bundle: The file ``model.safetensors``.
        pretrained: The CLIP's weights, where they lie elsewhere here than where the model was tuned.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        precision: What the CLIP computes in: ``"float32"``, ``"bfloat16"``, or ``"auto"``, which is
            bfloat16 on a GPU that has it, but for the tiny model.
        batch_size: Images that go through the image tower at once; bounds the memory.
        reading: How DICOM and NIfTI files are read; by default as they say themselves.

    Returns:
        What answers with `Prediction`; see `fedapt_secure.inference.predictor`.

    Raises:
        InvalidInput: If the file was changed, is of another version or is no bundle, if the CLIP cannot be
            loaded or has other weights, or an option is out of range.
    """
    from fedapt_secure.config.reading import AS_THEY_ARE  # noqa: PLC0415
    from fedapt_secure.inference.predictor import load_model  # noqa: PLC0415

    return load_model(
        bundle,
        pretrained=pretrained,
        device=device,
        precision=precision,
        batch_size=batch_size,
        reading=reading or AS_THEY_ARE,
    )
