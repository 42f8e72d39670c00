"""A finished model as one TorchScript file, for programs that load models with libtorch.

torch calls TorchScript deprecated (2.15: a FutureWarning of ``torch.jit.save`` and ``load``); what exists
keeps working there, and new programs had better take ONNX. B images, M classes.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fedapt_secure.export.apart import run_apart
from fedapt_secure.export.graphs import Graph, Own, Shared
from fedapt_secure.export.tracing import EXAMPLE_IMAGES, IMAGES_AT_ONCE, quiet_tracing

MODEL: Final = "model.pt"
PROPERTIES: Final = "fedapt-secure.json"
"""Name within the file under which its properties lie, as JSON."""
_SOURCE_SUFFIX: Final = ".debug_pkl"
DEPRECATED: Final = "TorchScript is deprecated by torch: take ONNX where you can"
_RUN: Final = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from safetensors.torch import load_file, save_file
model = torch.jit.load(sys.argv[1])
pixels = load_file(sys.argv[2])["pixels"]
with torch.no_grad():
    parts = [model(some) for some in pixels.split(int(sys.argv[4]))]
    answer = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    for name, values in model(pixels[:1]).items():  # a trace may have taken one batch size for all
        answer[name][:1] = values
save_file({name: values.contiguous() for name, values in answer.items()}, sys.argv[3])
"""
"""Run by a fresh process, which gets nothing of this package."""


class _Whole(nn.Module):
    """The two parts of a model as TorchScript reads them: with a loop over images with own prompts.

    Args:
        shared, own: The traced parts; ``own`` is not used where there is no such image ever.
        rows: Which values of ``shared`` ``own`` takes.
    """

    rows: list[str]

    def __init__(self, shared: nn.Module, own: nn.Module, rows: list[str]) -> None:
        super().__init__()
        self.shared = shared
        self.own = own
        self.rows = rows

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return logits (B, M), probabilities and, where there are keys, domain and weights, by name."""
        found: dict[str, Tensor] = self.shared(pixels)
        logits = found["logits"]
        if "own" in found:
            where = found["own"].nonzero().squeeze(1)
            taken = [found[name] for name in self.rows]
            for turn in range(where.size(0)):
                row = where[turn : turn + 1]
                own = self.own([one.index_select(0, row) for one in taken])
                logits = logits.index_copy(0, row, own)
        answer = {"logits": logits, "probabilities": logits.softmax(dim=1)}
        for name in ("domain", "domain_weights"):
            if name in found:
                answer[name] = found[name]
        return answer


class _ByName(nn.Module):
    """`Shared` with names: TorchScript takes a place in a tuple only where it is written down."""

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self._shared = shared

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Return the values."""
        return dict(zip(self._shared.names, self._shared(pixels), strict=True))


class _Listed(nn.Module):
    """`Own` for a list of rows: TorchScript has no calls with a number of arguments that varies."""

    def __init__(self, own: Own) -> None:
        super().__init__()
        self._own = own

    def forward(self, rows: list[Tensor]) -> Tensor:
        """Return logits (1, M)."""
        logits: Tensor = self._own(*rows)
        return logits


class _Nothing(nn.Module):
    def forward(self, rows: list[Tensor]) -> Tensor:
        """Return what stands for `Own` where it is never asked."""
        return rows[0]


def write_torchscript(folder: Path, graph: Graph, properties: Mapping[str, str]) -> list[str]:
    """Write a model.

    Args:
        folder: Where to.
        graph: What it computes.
        properties: What to keep within the file beside it, as text by name.

    Returns:
        The names of the files.
    """
    pixels = torch.zeros(EXAMPLE_IMAGES, 3, *graph.size)
    rows = [torch.full((1, size), 1.0 / size) for size in graph.row_sizes]
    with quiet_tracing(), torch.no_grad():
        shared = _traced(_ByName(graph.shared), pixels)
        own = _scripted(_Nothing()) if graph.own is None else _traced(_Listed(graph.own), rows)
        whole = _Whole(shared, own, [] if graph.own is None else list(graph.own.names))
        torch.jit.save(_scripted(whole), folder / MODEL, _extra_files=dict(properties))
    _without_source(folder / MODEL)
    return [MODEL]


def _without_source(path: Path) -> None:
    """Drop what torch notes of the source that it traced: it names this machine's paths."""
    made = path.with_suffix(".new")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as new:
        for record in old.infolist():
            if not record.filename.endswith(_SOURCE_SUFFIX):
                with old.open(record) as source, new.open(record, "w") as target:
                    shutil.copyfileobj(source, target)
    made.replace(path)


def run_torchscript(folder: Path, pixels: Tensor) -> dict[str, Tensor]:
    """Return what a fresh process answers for pixels (B, 3, H, W), by the outputs' names.

    Raises:
        RunFailed: If that process fails.
    """
    with tempfile.TemporaryDirectory() as name:
        asked, answered = Path(name) / "pixels", Path(name) / "answer"
        save_file({"pixels": pixels.contiguous()}, asked)
        run_apart("the TorchScript file", ["-c", _RUN, folder / MODEL, asked, answered, str(IMAGES_AT_ONCE)])
        return load_file(answered)


def _traced(module: nn.Module, example: Any) -> Any:
    # check_trace would run it again to say what the comparison with our own predictions says better.
    return torch.jit.trace(module.eval(), (example,), check_trace=False, strict=False)  # type: ignore[no-untyped-call]


def _scripted(module: nn.Module) -> Any:
    return torch.jit.script(module.eval())
