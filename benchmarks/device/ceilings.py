"""What the device can do at best: matrix products, copies within it, copies to it."""

import os
import platform
from datetime import UTC, datetime

import torch

from benchmarks.device.bench import Bench
from fedapt_secure.learning.clip.device import describe

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def facts(bench: Bench) -> dict[str, object]:
    """Return what machine and software this is."""
    found: dict[str, object] = {
        "device": describe(bench.device),
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }
    if bench.device.type == "cuda":
        properties = torch.cuda.get_device_properties(bench.device)
        found |= {
            "cuda": torch.version.cuda,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "free_gib": round(torch.cuda.mem_get_info(bench.device)[0] / 2**30, 1),
        }
    return found


def measure(bench: Bench) -> dict[str, float]:
    """Return the measured peak of matrix products, FLOP/s by type."""
    peaks: dict[str, float] = {}
    side = bench.size.matrix
    for name, dtype in DTYPES.items():
        with bench.guarded(f"peak {name}"):
            one, other = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
            out = torch.empty(side, side, device=bench.device, dtype=dtype)
            timing = bench.seconds_of(lambda a=one, b=other, c=out: torch.matmul(a, b, out=c))
            peaks[name] = 2 * side**3 / timing.least  # the best of all: a ceiling
            bench.add("ceilings", what=f"matrix product {name}", side=side, tflop_s=peaks[name] / 1e12)
    with bench.guarded("copies"):
        count = bench.size.copy_bytes
        there = torch.empty(count, dtype=torch.uint8, device=bench.device)
        target = torch.empty_like(there)
        timing = bench.seconds_of(lambda: target.copy_(there))
        bench.add("ceilings", what="copy on the device, read and write", gb_s=2 * count / timing.median / 1e9)
        plain = torch.zeros(count, dtype=torch.uint8)
        timing = bench.seconds_of(lambda: there.copy_(plain))
        bench.add("ceilings", what="copy to the device, ordinary memory", gb_s=count / timing.median / 1e9)
        if bench.device.type == "cuda":
            pinned = plain.pin_memory()
            timing = bench.seconds_of(lambda: there.copy_(pinned, non_blocking=True))
            bench.add("ceilings", what="copy to the device, pinned memory", gb_s=count / timing.median / 1e9)
    return peaks
