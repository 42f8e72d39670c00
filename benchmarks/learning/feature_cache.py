"""Measure the feature cache: threads that decode, reading it back, and the memory that a large one takes.

    python -m benchmarks.learning.feature_cache --json results.json

Memory is measured in a process of its own. What counts is its anonymous memory (RssAnon), looked at by a
thread every few milliseconds: pages of a mapped file count as resident too, but the system takes them back
when it needs room.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fedapt_secure.learning.clip.backbone import RANDOM, load_backbone
from fedapt_secure.learning.data.features.encoding import Encoding
from fedapt_secure.learning.data.features.marks import ImageFile
from fedapt_secure.learning.data.features.shard import Shard
from fedapt_secure.learning.data.features.store import FeatureStore, StoreIdentity
from fedapt_secure.learning.data.reading import decoding as module

FEATURE_SIZE = 768  # of ViT-L/14


def decoding(folder: Path, images: int) -> dict[str, float]:
    """Return images a second by number of threads, for JPEG files of 1,024 x 768 pixels."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(images)]
    for path in paths:
        small = Image.fromarray(rng.integers(0, 255, (96, 128, 3), np.uint8))
        small.resize((1024, 768), Image.Resampling.BICUBIC).save(path, quality=90)
    decoder = module.Decoder(load_backbone("ViT-B-32", RANDOM))
    rates = {}
    for threads in sorted({1, 2, os.cpu_count() or 1}):
        module.thread_count = lambda threads=threads: threads
        started = time.perf_counter()
        for _ in module.in_order(decoder.decode, paths):
            pass
        rates[str(threads)] = images / (time.perf_counter() - started)
    return rates


def fill(cache: Path, images: int) -> None:
    store = FeatureStore(cache, identity())
    rng = np.random.default_rng(0)
    for start in range(0, images, 256):
        count = min(256, images - start)
        digests = b"".join((start + row).to_bytes(32, "big") for row in range(count))
        store.add(
            Shard(
                np.frombuffer(digests, np.uint8).reshape(count, 32),
                rng.standard_normal((count, FEATURE_SIZE), np.float32),
                np.ones(count, np.bool_),
                {},
            )
        )


def identity() -> StoreIdentity:
    tiny = load_backbone()
    return StoreIdentity(tiny.name, tiny.weight_hash, tiny.preprocess_hash, FEATURE_SIZE, "plain")


def anonymous_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) / 1024


def reading(cache: Path, images: int) -> dict[str, float]:
    """Read a whole cache and an epoch of random batches; to be run in a process of its own."""
    backbone = load_backbone()
    backbone.feature_size = FEATURE_SIZE
    files = [ImageFile(Path("gone"), number.to_bytes(32, "big")) for number in range(images)]
    order = torch.randperm(images)
    before, most, over = anonymous_mib(), 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, anonymous_mib())
            time.sleep(0.005)

    watching = threading.Thread(target=watch)
    watching.start()
    started = time.perf_counter()
    encoding = Encoding(files, backbone, cache, "plain", None)
    encoding.carry_out()
    features = encoding.features(encoding.usable_rows)
    read_s = time.perf_counter() - started
    started = time.perf_counter()
    for batch in order.split(256):
        features[batch].sum()
    epoch_s = time.perf_counter() - started
    over.set()
    watching.join()
    return {"read_s": read_s, "epoch_s": epoch_s, "anonymous_mib": most - before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=200_000, help="rows of the synthetic cache")
    parser.add_argument("--files", type=int, default=400, help="JPEG files to decode")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read is not None:
        print(json.dumps(reading(options.read, options.images)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates = decoding(folder, options.files)
        fill(folder / "cache", options.images)
        command = [
            sys.executable,
            "-m",
            "benchmarks.learning.feature_cache",
            "--images",
            str(options.images),
            "--read",
            str(folder / "cache"),
        ]
        read = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    size_mib = options.images * FEATURE_SIZE * 4 / 2**20
    for threads, rate in rates.items():
        print(f"decoding with {threads} threads: {rate:.0f} images/s")
    print(
        f"{options.images} images, {size_mib:.0f} MiB of features: read and verified in"
        f" {read['read_s']:.1f} s, an epoch of random batches {read['epoch_s']:.2f} s, at most"
        f" {read['anonymous_mib']:.0f} MiB of memory more than before"
    )
    if options.json is not None:
        options.json.write_text(
            json.dumps({"decoding": rates, "size_mib": size_mib, **read}, indent=2) + "\n"
        )


if __name__ == "__main__":
    main()
