"""A private step: clipping in text-feature space against per-sample gradients through the prompts.

    python -m benchmarks.learning.dp_step --json results.json

The alternatives, Opacus with expanded prompts and ``torch.func.vmap``, get our cached features as well. Once
they encode 77 tokens as the reference code does, once they are granted prompts cut at their end, too.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import Result, Spread, Table, Target, in_turns, ratios, resident_peak_mib, run
from benchmarks.learning.problems import DOMAIN, Problem, backbone_for, check_equal, problem
from benchmarks.learning.reference_way import ExpandedModel, OpacusStep, ReferenceText, VmapStep
from fedapt_secure.learning.batches.units import Batch
from fedapt_secure.learning.clip.backbone import Backbone

NOISE, CLIP = 2.0, 1.0
NO_LIMIT = 1e9
"""A clipping norm that clips nothing: only so are both gradients the same sum."""
MEMORY_BATCH = 8192
MEMORY_CLASSES = (10, 65)
OPACUS, VMAP = "Opacus, expanded prompts", "torch.func.vmap"


@dataclass(frozen=True)
class Case:
    """One size; ``at_once`` samples fit into memory, and ``aims`` is how many times faster ours should be."""

    classes: int
    batch: int
    at_once: int
    turns: int
    cut_at_eot: bool
    aim: float | None = None

    @property
    def title(self) -> str:
        tokens = "cut at the end" if self.cut_at_eot else "77 tokens"
        return f"{self.classes} classes, batch {self.batch}, {tokens}"


CASES = (Case(10, 32, 8, 2, cut_at_eot=False, aim=60.0), Case(10, 32, 8, 2, cut_at_eot=True))
QUICK = (Case(3, 4, 2, 1, cut_at_eot=False), Case(3, 4, 2, 1, cut_at_eot=True))


def our_step(made: Problem, noise: float | None, limit: float) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return a step whose gradients are sums over the batch, divided by its size."""
    objective = made.objective(noise, limit)
    parameters = {
        "meta_prompt": made.meta_prompt.clone().requires_grad_(),
        "adaptive_network": made.network.clone().requires_grad_(),
    }
    batch = Batch.of_images(torch.arange(len(made.labels)))

    def step() -> tuple[Tensor, Tensor]:
        found = objective.gradients(parameters, batch)
        return found["meta_prompt"], found["adaptive_network"]

    return step


def opacus_step(made: Problem, case: Case, noise: float, limit: float) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return the step of Opacus, a sum over the batch."""
    scale = made.backbone.logit_scale
    text = ReferenceText(made.backbone, made.class_names, len(made.key), cut_at_eot=case.cut_at_eot)
    model = ExpandedModel(text, scale, made.meta_prompt, made.key, made.network)
    step = OpacusStep(model, noise, limit, case.at_once, scale)
    unit = F.normalize(made.features, dim=-1)
    return lambda: step(unit, made.labels, DOMAIN)


def vmap_step(made: Problem, case: Case, noise: float, limit: float) -> Callable[[], tuple[Tensor, Tensor]]:
    """Return the step of ``torch.func``, a sum over the batch."""
    text = ReferenceText(made.backbone, made.class_names, len(made.key), cut_at_eot=case.cut_at_eot)
    step = VmapStep(text, made.key, noise, limit, case.at_once, made.backbone.logit_scale)
    unit = F.normalize(made.features, dim=-1)
    return lambda: step(made.meta_prompt, made.network, unit, made.labels, DOMAIN)


def check_case(made: Problem, case: Case) -> dict[str, float]:
    """Compare the three gradients where nothing is clipped, and the two alternatives where much is.

    Ours is the private path there, too, with next to no noise, and a C that no gradient in text-feature space
    reaches (2: two cross-entropies, each at most the square root of 2, of unit-norm features).
    """
    count = len(made.labels)
    private = our_step(made, 1e-12, 4.0)()
    differences = {}
    for name, make in ((OPACUS, opacus_step), (VMAP, vmap_step)):
        found = make(made, case, 0.0, NO_LIMIT)()
        differences[name] = max(
            check_equal(mine, theirs / count, f"{case.title}, {name}")
            for mine, theirs in zip(private, found, strict=True)
        )
    clipped = [make(made, case, 0.0, 0.01)() for make in (opacus_step, vmap_step)]
    for one, other in zip(*clipped, strict=True):
        check_equal(one, other, f"{case.title}, clipped")
    return differences


def measure(quick: bool) -> Result:
    """Measure a private step against per-sample gradients through the prompts."""
    backbone = backbone_for(quick)
    result = Result(
        "dp_step",
        "A private step",
        f"{'Tiny CLIP' if quick else 'ViT-B/32'} with random weights, all cores, 24 context tokens, 6"
        f" domains, σ = {NOISE:g}, C = {CLIP:g}. All contenders have the features at hand. Per-sample"
        " gradients of the prompts are taken some samples at a time, as memory demands. Where nothing is"
        " clipped and there is no noise, all gradients of 8 samples were the same; where much is clipped,"
        " those of the two alternatives. Seconds a step: median (least to most).",
    )
    table = Table("", ["step", "ours s", f"{OPACUS} s", "times", f"{VMAP} s", "times", "gradients differ by"])
    for case in QUICK if quick else CASES:
        seconds, differences = measure_case(case, backbone, 8 if quick else 24)
        result.raw[case.title] = {**seconds, "differences": differences}
        times = {name: ratios(seconds[name], seconds["ours"]) for name in (OPACUS, VMAP)}
        cells = [case.title, Spread.of(seconds["ours"]).text()]
        for name in (OPACUS, VMAP):
            cells += [Spread.of(seconds[name]).text(), times[name].text()]
        table.rows.append([*cells, f"{max(differences.values()):.0e}"])
        if case.aim is not None:
            why = {
                OPACUS: "",
                VMAP: (
                    "vmap encodes the text once and maps only the backward pass over the samples. Ours is one"
                    " pass there and one back; both run at the processor's rate for matrix products, and"
                    " counting operations the ratio is 48"
                ),
            }
            for name in (OPACUS, VMAP):
                what = f"{case.title}, against {name}"
                result.targets.append(Target(what, case.aim, times[name].median, why_missed=why[name]))
    result.tables.append(table)
    measure_memory(result, quick)
    return result


def measure_case(
    case: Case, backbone: Backbone, context_tokens: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    # Samples do not meet before they are added up: some of them show whether all contenders agree.
    differences = check_case(problem(backbone, case.classes, case.at_once, context_tokens), case)
    made = problem(backbone, case.classes, case.batch, context_tokens)
    contenders = {
        "ours": our_step(made, NOISE, CLIP),
        OPACUS: opacus_step(made, case, NOISE, CLIP),
        VMAP: vmap_step(made, case, NOISE, CLIP),
    }
    contenders["ours"]()
    return in_turns(contenders, case.turns, warm_up=False), differences


def measure_memory(result: Result, quick: bool) -> None:
    """Measure in processes of their own, so that no earlier peak hides this one."""
    table = Table("", ["private step at batch", "classes", "memory above the loaded model, MiB"])
    batch = 64 if quick else MEMORY_BATCH
    for classes in MEMORY_CLASSES[: 1 if quick else None]:
        if quick:
            peak = step_memory(quick, classes, batch)
        else:
            command = [sys.executable, "-m", "benchmarks.learning.dp_step", "--memory-of", str(classes)]
            peak = float(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
        result.raw[f"memory, {classes} classes"] = peak
        table.rows.append([f"{batch:,}", str(classes), f"{peak:.0f}"])
        if not quick:
            result.targets.append(
                Target(f"memory at batch {batch:,}, {classes} classes", 1024, peak, at_most=True, unit=" MiB")
            )
    result.tables.append(table)


def step_memory(quick: bool, classes: int, batch: int) -> float:
    """Return the MiB that a private step takes on top of model and features."""
    made = problem(backbone_for(quick), classes, batch, 8 if quick else 24)
    return resident_peak_mib(our_step(made, NOISE, CLIP))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory-of"]:
        print(step_memory(False, int(sys.argv[2]), MEMORY_BATCH))
    else:
        run(measure)
