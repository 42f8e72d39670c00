"""DP steps a second: FedAPT's objective as it is used; text tower, heads with clipping, and noise apart."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from benchmarks.device.bench import Bench
from benchmarks.device.work import prompt_length, text_step_flop
from fedapt_crypto.keystream import Keystream
from fedapt_secure.learning.batches.examples import Examples
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.device import Precision, resident
from fedapt_secure.learning.clip.graphs import forget, kept_bytes, replayed
from fedapt_secure.learning.clip.text import PromptedText
from fedapt_secure.learning.methods.base import Task, TrainingData
from fedapt_secure.learning.methods.registry import method_of
from fedapt_secure.learning.methods.settings import TrainingSettings
from fedapt_secure.learning.privacy.dp import TextFeatureGradient
from fedapt_secure.learning.privacy.mechanism import Mechanism
from fedapt_secure.learning.privacy.noise import gaussian
from fedapt_secure.protocol.parameters import ParameterShape, initial_parameters, unflatten

DOMAINS = 6
STEPS_IN_A_ROW = 8


def measure(bench: Bench, peaks: dict[str, float]) -> None:
    """Measure steps of all sizes."""
    for model in bench.size.models:
        for classes in bench.size.classes:
            for precision in ("bfloat16", "float32"):
                with bench.guarded(f"steps {model}, {classes} classes, {precision}"):
                    _steps(bench, model, classes, precision, peaks, class_specific=True)
        with bench.guarded(f"steps {model}, shared context"):
            _steps(bench, model, max(bench.size.classes), "bfloat16", peaks, class_specific=False)


def measure_compiled(bench: Bench) -> None:
    """Measure the text tower there and back under torch.compile, for the fewest and the most classes."""
    for model in bench.size.models:
        for classes in sorted({min(bench.size.classes), max(bench.size.classes)}):
            with bench.guarded(f"compiled text tower {model}, {classes} classes"):
                _compiled(bench, model, classes)


def _text(bench: Bench, model: str, classes: int, precision: Precision, class_specific: bool) -> PromptedText:
    names = [f"thing {number}" for number in range(classes)]
    return PromptedText(bench.backbone(model, precision), names, bench.size.context_tokens, class_specific)


def _steps(
    bench: Bench,
    model: str,
    classes: int,
    precision: Precision,
    peaks: dict[str, float],
    *,
    class_specific: bool,
) -> None:
    text = _text(bench, model, classes, precision, class_specific)
    shape = ParameterShape(
        classes=classes,
        context_tokens=bench.size.context_tokens,
        text_width=text.backbone.text_width,
        feature_size=text.backbone.feature_size,
        domains=DOMAINS,
        class_specific=class_specific,
    )
    plain, replay = _text_work(bench, text, shape)
    plain_s = bench.seconds_of(plain).median
    forget()
    first_s = bench.seconds_of_once(replay)
    text_s = bench.seconds_of(replay).median
    kept = kept_bytes() if bench.device.type == "cuda" else 0
    noise_s = _noise_s(bench, shape)
    flop = text_step_flop(text, prompt_length(text)) if class_specific else None
    for batch in bench.size.batches:
        step = bench.seconds_of(_step(bench, text, shape, batch), in_a_row=STEPS_IN_A_ROW)
        heads = bench.seconds_of(_heads(bench, shape, batch))
        row: dict[str, object] = {
            "model": model,
            "precision": precision,
            "context": "one a class" if class_specific else "shared",
            "classes": classes,
            "batch": batch,
            "steps_s": 1 / step.median,
            **step.to_fields(),
            "text_tower_ms": 1e3 * text_s,
            "text_plain_ms": 1e3 * plain_s,
            "replay_times_faster": plain_s / text_s,
            "recording_s": first_s,
            "recording_mib": kept / 2**20,
            "heads_clip_noise_ms": 1e3 * heads.median,
            "noise_cpu_ms": 1e3 * noise_s,
            "text_share": text_s / step.median,
        }
        if flop is not None:
            row |= {"text_gflop": flop / 1e9, "text_tflop_s": flop / text_s / 1e12}
            if precision in peaks:
                row["text_share_of_peak"] = flop / text_s / peaks[precision]
        if bench.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            _step(bench, text, shape, batch)()
            row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        bench.add("steps", **row)


def _step(bench: Bench, text: PromptedText, shape: ParameterShape, batch: int) -> Callable[[], object]:
    """Return a training step as an institution does it, on records that stay where training keeps them."""
    generator = torch.Generator().manual_seed(0)
    records = 2 * batch
    features = torch.randn(records, shape.feature_size, generator=generator)
    labels = torch.randint(shape.classes, (records,), generator=generator)
    settings = TrainingSettings(declared_records=records, noise_multiplier=1.0)
    task = Task(
        backbone=text.backbone,
        class_names=text.class_names,
        shape=shape,
        template="a photo of a {}",
        key=torch.rand(shape.key, generator=generator).to(bench.device),
        domain_index=1,
        settings=settings,
        keystream=Keystream.from_operating_system(),
    )
    placed = resident(features, bench.device)
    objective = method_of(shape.method).objective(task, TrainingData(placed, labels.to(placed.device)))
    parameters = {
        name: torch.from_numpy(values).to(bench.device).requires_grad_()
        for name, values in unflatten(shape, initial_parameters(shape, 0)).items()
    }
    optimizer = torch.optim.SGD(list(parameters.values()), lr=0.1, momentum=0.9)

    def step() -> None:
        chosen = torch.randperm(records)[:batch]
        gradients = objective.gradients(parameters, Batch.of_images(chosen))
        for name, tensor in parameters.items():
            tensor.grad = gradients[name]
        optimizer.step()

    return step


def _text_work(
    bench: Bench, text: PromptedText, shape: ParameterShape
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Return the text tower there and back: the plain way, and as training does it."""
    contexts = 0.02 * torch.randn(1, *next(part.shape for part in shape.parts if part.name == "meta_prompt"))
    contexts = contexts.to(bench.device).requires_grad_()
    weights = torch.randn(1, shape.classes, shape.feature_size, device=bench.device)

    def replay() -> object:
        with replayed(text, contexts) as encode:
            return torch.autograd.grad(encode(contexts), contexts, weights)

    return lambda: torch.autograd.grad(text.encode(contexts), contexts, weights), replay


def _heads(bench: Bench, shape: ParameterShape, batch: int) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(2)
    size = shape.feature_size
    features = F.normalize(torch.randn(batch, size, generator=generator), dim=-1).to(bench.device)
    labels = torch.randint(shape.classes, (batch,), generator=generator).to(bench.device)
    weights, network = (torch.randn(n, size, device=bench.device) for n in (shape.classes, DOMAINS))
    gradient = TextFeatureGradient(
        classes=shape.classes,
        domains=DOMAINS,
        feature_size=size,
        divisor=float(batch),
        mechanism=Mechanism(1.0, 1.0),
        device=bench.device,
    )
    examples, records = Examples(features, labels), Batch.of_images(torch.arange(batch))
    return lambda: gradient(weights, network, features, features, examples, 1, records)


def _noise_s(bench: Bench, shape: ParameterShape) -> float:
    keystream, count = Keystream.from_operating_system(), shape.classes + DOMAINS
    taken = []
    for _ in range(5):
        started = time.perf_counter()
        gaussian(keystream, (count, shape.feature_size))
        taken.append(time.perf_counter() - started)
    return sorted(taken)[2]


def _compiled(bench: Bench, model: str, classes: int) -> None:
    text = _text(bench, model, classes, "bfloat16", class_specific=True)
    shape = (1, classes, bench.size.context_tokens, text.backbone.text_width)
    contexts = (0.02 * torch.randn(shape)).to(bench.device).requires_grad_()
    weights = torch.randn(1, classes, text.backbone.feature_size, device=bench.device)
    plain = bench.seconds_of(lambda: torch.autograd.grad(text.encode(contexts), contexts, weights))
    for mode in ("default", "reduce-overhead"):
        if mode != "default" and (bench.device.type != "cuda" or classes > min(bench.size.classes)):
            continue  # it saves launches, which count only where there is little to compute
        with bench.guarded(f"compiled text tower {model}, {classes} classes, {mode}"):
            encode = torch.compile(text.encode, mode=mode)

            def work(encode: Callable[[torch.Tensor], torch.Tensor] = encode) -> object:
                return torch.autograd.grad(encode(contexts), contexts, weights)

            first = bench.seconds_of_once(work)
            timing = bench.seconds_of(work, warm_up=4)
            gained = plain.median - timing.median
            bench.add(
                "compiled text tower",
                model=model,
                classes=classes,
                mode=mode,
                plain_ms=1e3 * plain.median,
                **timing.to_fields(),
                compile_s=first,
                times_faster=plain.median / timing.median,
                pays_after_steps=first / gained if gained > 0 else None,
            )
