"""Images a second: tower alone, with and without torch.compile; from files; decoding alone; predicting."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.device.bench import Bench, Timing
from benchmarks.device.work import image_flop
from fedapt_secure.learning.clip.backbone import Backbone
from fedapt_secure.learning.clip.device import Precision, in_precision
from fedapt_secure.learning.clip.feeding import Feed
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.decoding import Decoder, in_order, thread_count
from fedapt_secure.learning.data.reading.records import Record
from fedapt_secure.learning.methods.fedapt import FedAptModel

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
KEYS = 6


def measure(bench: Bench, peaks: dict[str, float]) -> None:
    """Measure everything about images, model by model."""
    for model in bench.size.models:
        for precision in PRECISIONS:
            with bench.guarded(f"image tower {model} {precision}"):
                _tower(bench, model, precision, peaks)
        with bench.guarded(f"pinned feed {model}"):
            _feed(bench, model)
    with bench.guarded("files"), tempfile.TemporaryDirectory() as folder:
        _files(bench, Path(folder))
    for model in bench.size.models:
        with bench.guarded(f"predicting {model}"):
            _predict(bench, model)


def measure_compiled(bench: Bench, peaks: dict[str, float]) -> None:
    """Measure the image towers under torch.compile: what it gains, and after how many images it has paid."""
    for model in bench.size.models:
        with bench.guarded(f"compiled image tower {model}"):
            _compiled(bench, model, peaks)


def _pixels(bench: Bench, backbone: Backbone) -> torch.Tensor:
    side = backbone.text_tower.module.visual.image_size[0]
    return torch.randn(bench.size.image_batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def _row(
    bench: Bench, what: str, backbone: Backbone, timing: Timing, peaks: dict[str, float]
) -> dict[str, object]:
    count, flop = bench.size.image_batch, image_flop(backbone)
    row: dict[str, object] = {
        "what": what,
        "model": backbone.name,
        "precision": backbone.precision,
        "batch": count,
        "images_s": count / timing.median,
        **timing.to_fields(),
    }
    if flop is not None:
        row |= {"gflop_image": flop / 1e9, "tflop_s": count * flop / timing.median / 1e12}
        if backbone.precision in peaks:
            row["share_of_peak"] = count * flop / timing.median / peaks[backbone.precision]
    return row


def _tower(bench: Bench, model: str, precision: Precision, peaks: dict[str, float]) -> None:
    backbone = bench.backbone(model, precision)
    pixels = _pixels(bench, backbone).to(bench.device)
    timing = bench.seconds_of(lambda: backbone.encode_images(pixels))
    bench.add("images", **_row(bench, "tower alone, pixels on the device", backbone, timing, peaks))


def _compiled(bench: Bench, model: str, peaks: dict[str, float]) -> None:
    backbone = bench.backbone(model, "bfloat16")
    pixels = _pixels(bench, backbone).to(bench.device)
    plain = bench.seconds_of(lambda: backbone.encode_images(pixels))
    tower = torch.compile(backbone.text_tower.module.visual)

    @torch.no_grad()
    def encode() -> torch.Tensor:
        with in_precision(backbone.precision, bench.device):
            return tower(pixels).float()

    # In both, the first call is what compiling costs.
    first = bench.seconds_of_once(encode)
    timing = bench.seconds_of(encode)
    row = _row(bench, "tower alone, torch.compile", backbone, timing, peaks)
    gained = (plain.median - timing.median) / bench.size.image_batch
    bench.add(
        "images",
        **row,
        compile_s=first,
        times_faster=plain.median / timing.median,
        pays_after_images=first / gained if gained > 0 else None,
    )


def _feed(bench: Bench, model: str) -> None:
    """The way to the device: pageable and waited for, against pinned and one batch late."""
    backbone = bench.backbone(model, "bfloat16")
    images = list(_pixels(bench, backbone))
    batches = [(number, images) for number in range(8)]

    def plain() -> None:
        for _, some in batches:
            backbone.encode_images(torch.stack(some)).cpu()

    feed = Feed(backbone.encode_images, bench.device, backbone.feature_size)

    def fed() -> None:
        for _ in feed(batches):
            pass

    for what, work in (("from memory, plain", plain), ("from memory, fed", fed)):
        timing = bench.seconds_of(work, warm_up=1)
        count = len(batches) * len(images)
        bench.add("images", what=what, model=model, precision="bfloat16", images_s=count / timing.median)


def _files(bench: Bench, folder: Path) -> None:
    """Decoding alone, beside one torch thread and beside as many as there are; then the whole way."""
    records = _make_files(bench, folder)
    at_most, before = thread_count(bench.device), torch.get_num_threads()
    _decode(bench, records, at_most, before)
    torch.set_num_threads(1)  # as `simulate` does: decoding threads would keep each other off the cores
    try:
        for threads in sorted({1, 4, at_most}):
            _decode(bench, records, threads, 1)
        for model in bench.size.models:
            backbone = bench.backbone(model, "bfloat16")
            seconds = bench.seconds_of_once(
                lambda one=backbone: load_features(records, one, folder / one.name)
            )
            bench.add(
                "files",
                what="files to cached features",
                model=model,
                precision="bfloat16",
                threads=at_most,
                torch_threads=1,
                images=len(records),
                images_s=len(records) / seconds,
            )
    finally:
        torch.set_num_threads(before)


def _decode(bench: Bench, records: list[Record], threads: int, torch_threads: int) -> None:
    decoder = Decoder(bench.backbone(next(iter(bench.size.models)), "bfloat16"))
    paths = [record.path for record in records[: max(8, len(records) * min(threads, 8) // 16)]]

    def decode() -> None:
        for _ in in_order(decoder.decode, paths, threads=threads):
            pass

    seconds = bench.seconds_of_once(decode)
    bench.add(
        "files",
        what="decoding alone",
        threads=threads,
        torch_threads=torch_threads,
        images=len(paths),
        images_s=len(paths) / seconds,
    )


def _make_files(bench: Bench, folder: Path) -> list[Record]:
    """Write JPEG files of smooth random pictures: about as many bytes a pixel as photographs."""
    rng = np.random.default_rng(0)
    size = bench.size.file_pixels

    def write(number: int) -> Record:
        coarse = Image.fromarray(pictures[number % len(pictures)]).resize(size, Image.Resampling.BICUBIC)
        path = folder / f"{number}.jpg"
        # No two files alike: features are kept by content.
        coarse.point(lambda value: (value + number) % 256).save(path, quality=90, comment=str(number))
        return Record(path, number % 2, path.name)

    pictures = rng.integers(0, 255, (64, size[1] // 6, size[0] // 6, 3), np.uint8)
    records = list(in_order(write, range(bench.size.files), threads=os.cpu_count()))
    bytes_ = sum(record.path.stat().st_size for record in records) / len(records)
    bench.add(
        "files", what=f"JPEG files of {size[0]} x {size[1]} pixels", kb=bytes_ / 1000, images=len(records)
    )
    return records


def _predict(bench: Bench, model: str) -> None:
    """Routed prediction on features that are there, for the most classes, against the tower's time."""
    backbone = bench.backbone(model, "bfloat16")
    generator = torch.Generator().manual_seed(1)
    classes, count = max(bench.size.classes), bench.size.image_batch
    width, size, tokens = backbone.text_width, backbone.feature_size, bench.size.context_tokens
    tuned = FedAptModel(
        PromptedText(backbone, [f"thing {number}" for number in range(classes)], tokens),
        0.02 * torch.randn(classes, tokens, width, generator=generator),
        torch.randn(KEYS, size, generator=generator),
        torch.rand(KEYS, tokens, width, generator=generator),
        temperature=1e-4,  # routes every image to one key, as nearly all are with trained networks
    )
    first = bench.seconds_of_once(lambda: tuned.routed_text)
    pixels = _pixels(bench, backbone).to(bench.device)
    tower = bench.seconds_of(lambda: backbone.encode_images(pixels))
    routed = bench.seconds_of(lambda: tuned.predict(backbone.encode_images(pixels)))
    bench.add(
        "predicting",
        model=model,
        classes=classes,
        batch=count,
        images_s=count / routed.median,
        tower_images_s=count / tower.median,
        ratio=routed.median / tower.median,
        prompts_once_s=first,
    )
