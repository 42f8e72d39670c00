"""``fedapt-secure simulate``: options; what it does is in `fedapt_secure.simulate.command`."""

import webbrowser
from pathlib import Path
from typing import Annotated

from fedapt_secure.cli.commands.run_options import (
    PRIVACY,
    RUN,
    TRAINING,
    Activation,
    Axis,
    BatchSize,
    Cache,
    Classes,
    Clients,
    ContextTokens,
    DataRoot,
    Dataset,
    Device,
    Dirichlet,
    DirichletOver,
    Domains,
    FewShot,
    Frame,
    InstitutionsPerDomain,
    LocalEpochs,
    LocalSteps,
    MaxUnused,
    Model,
    Pretrained,
    Rounds,
    SampleRate,
    SecureAggregation,
    Slice,
    SubjectsFrom,
    Template,
    TestShare,
    UnseenDomain,
    Window,
    option,
)
from fedapt_secure.config.settings import build, read_yaml
from fedapt_secure.process.screen import Screen

_OURS = ("config", "open_report")
"""Options that are none of the simulation's."""


def simulate(
    dp_epsilon: Annotated[
        float | None, option("ε of each institution over the whole run (default 8).", PRIVACY)
    ] = None,
    dp_delta: Annotated[float | None, option("δ (default 1/(2 x declared records)).", PRIVACY)] = None,
    ledger: Annotated[
        Path | None,
        option(
            "Folder of lasting ledgers: what earlier runs spent on the same images counts, and a run over"
            " the policy is refused (default: ledgers inside the run folder, each run counts alone).",
            PRIVACY,
        ),
    ] = None,
    max_epsilon: Annotated[
        float | None,
        option(
            "With --ledger: ε allowed for each institution's images over all runs, δ in proportion"
            " (default: this run's ε, so a second run on the same images is refused).",
            PRIVACY,
        ),
    ] = None,
    no_dp: Annotated[
        bool | None, option("Train without privacy: for experiments only.", PRIVACY, "--no-dp")
    ] = None,
    insecure_deterministic_noise: Annotated[
        bool | None,
        option(
            "Let --seed decide the privacy noise, to repeat a run: NOT private, and marked so.",
            PRIVACY,
            "--insecure-deterministic-noise",
        ),
    ] = None,
    secure_aggregation: SecureAggregation = None,
    clients: Clients = None,
    institutions_per_domain: InstitutionsPerDomain = None,
    method: Annotated[
        str | None,
        option(
            "fedapt, promptfl, cocoop, fedclip, linear-probe, local, zero-shot; without privacy also fedavg,"
            " fedprox (default fedapt).",
            TRAINING,
        ),
    ] = None,
    unsupervised: Annotated[
        bool | None,
        option("Train without labels: they serve tests alone.", TRAINING, "--unsupervised"),
    ] = None,
    pseudo_label_confidence: Annotated[
        float | None,
        option("With --unsupervised: from when on the untuned model counts (default 0.75).", TRAINING),
    ] = None,
    consistency_rounds: Annotated[
        int | None,
        option(
            "With --unsupervised: how many of the last rounds look at neighbours (default 4; none under"
            " differential privacy).",
            TRAINING,
        ),
    ] = None,
    augmentations: Annotated[
        str | None,
        option(
            "With --unsupervised: of flip,jitter,greyscale,blur (default all; digits: no flip).", TRAINING
        ),
    ] = None,
    augmented_views: Annotated[
        int | None, option("With --unsupervised: augmented views of each image (default 4).", TRAINING)
    ] = None,
    consistency_loss: Annotated[
        str | None,
        option(
            "With --unsupervised: plain cross-entropy, or reference, of a softmax of probabilities (default"
            " plain).",
            TRAINING,
        ),
    ] = None,
    pseudo_label_mean: Annotated[
        str | None,
        option(
            "With --unsupervised: over the batch, or with --no-dp over those that are sure (default batch).",
            TRAINING,
        ),
    ] = None,
    transductive: Annotated[
        bool | None,
        option(
            "With --unsupervised and --no-dp: train on the images held out, without their labels.",
            TRAINING,
            "--transductive",
        ),
    ] = None,
    initial_context: Annotated[
        str | None,
        option(
            "Words that contexts start from, or random (default random; 'a photo of a' with --unsupervised).",
            TRAINING,
        ),
    ] = None,
    rounds: Rounds = None,
    local_steps: LocalSteps = None,
    sample_rate: SampleRate = None,
    batch_size: BatchSize = None,
    local_epochs: LocalEpochs = None,
    learning_rate: Annotated[
        float | None,
        option("Learning rate (default: the method's; 3 for fedapt).", TRAINING),
    ] = None,
    learning_rate_schedule: Annotated[
        str | None,
        option("constant, or linear: down to none (default linear).", TRAINING),
    ] = None,
    gradient_units: Annotated[
        str | None,
        option(
            "text-features: one learning rate fits every model; loss: learning rates as papers state them"
            " (default text-features).",
            TRAINING,
        ),
    ] = None,
    momentum: Annotated[float | None, option("Momentum within a round (default 0).", TRAINING)] = None,
    max_grad_norm: Annotated[float | None, option("Clipping norm C (default 0.5).", TRAINING)] = None,
    loss_temperature: Annotated[
        float | None,
        option("What class logits are divided by in the loss (default 4).", TRAINING),
    ] = None,
    domain_loss_weight: Annotated[
        float | None,
        option("Weight of the routing loss where gradients are clipped (default 0.3).", TRAINING),
    ] = None,
    prior_weight: Annotated[
        str | None,
        option(
            "How much of the untuned model the finished one keeps, 0 to 1, or auto: from budget, records and"
            " classes (default auto).",
            TRAINING,
        ),
    ] = None,
    weight_decay: Annotated[float | None, option("L2 penalty (default 0).", TRAINING)] = None,
    proximal_weight: Annotated[
        float | None, option("FedProx' μ (default 0.01 for fedprox, else 0).", TRAINING)
    ] = None,
    temperature: Annotated[
        float | None, option("Temperature that routes images to domains (default 0.01).", TRAINING)
    ] = None,
    keys: Annotated[
        str | None,
        option("Number of domain keys, or per-institution (default one a domain).", TRAINING),
    ] = None,
    key_fusion: Annotated[
        str | None,
        option("What a key does to the prompt: multiply; add: for experiments (default multiply).", TRAINING),
    ] = None,
    key_values: Annotated[
        str | None,
        option(
            "What keys are drawn from: uniform; signed, normal, contexts: for experiments (default uniform).",
            TRAINING,
        ),
    ] = None,
    context_tokens: ContextTokens = None,
    shared_context: Annotated[
        bool | None, option("One context for all classes.", TRAINING, "--shared-context")
    ] = None,
    participation: Annotated[
        str | None,
        option(
            "Who takes part in a round: all, or one-per-domain, one of each domain (default all).",
            TRAINING,
        ),
    ] = None,
    update_clip: Annotated[
        float | None, option("Largest parameter change that is sent (default 16).", TRAINING)
    ] = None,
    model: Model = None,
    pretrained: Pretrained = None,
    activation: Activation = None,
    dataset: Dataset = None,
    data_root: DataRoot = None,
    domains: Domains = None,
    classes: Classes = None,
    unseen_domain: UnseenDomain = None,
    subjects: SubjectsFrom = None,
    window: Window = None,
    frame: Frame = None,
    axis: Axis = None,
    slice: Slice = None,
    max_unused: MaxUnused = None,
    dirichlet: Dirichlet = None,
    dirichlet_over: DirichletOver = None,
    test_share: TestShare = None,
    few_shot: FewShot = None,
    template: Template = None,
    cache: Cache = None,
    device: Device = None,
    precision: Annotated[
        str | None,
        option("Of the frozen CLIP: float32, bfloat16, or auto, bfloat16 on GPUs (default auto).", RUN),
    ] = None,
    seed: Annotated[
        int | None,
        option("Who gets which images, and the initialisation; never the noise (default 0).", RUN),
    ] = None,
    config: Annotated[Path | None, option("YAML file with any of these options.", RUN)] = None,
    out: Annotated[Path | None, option("Run folder (default runs/<time>-seed<N>).", RUN)] = None,
    engine: Annotated[
        str | None, option("local, or ray: each institution a Ray actor (default local).", RUN)
    ] = None,
    ray_address: Annotated[
        str | None,
        option("An existing Ray cluster: HOST:PORT or auto (default: one on this machine).", RUN),
    ] = None,
    client_cpus: Annotated[
        float | None,
        option("With Ray: processors of each institution (default an equal share, at most 1).", RUN),
    ] = None,
    client_gpus: Annotated[
        float | None, option("With Ray: GPUs of each institution, or a share of one (default 0).", RUN)
    ] = None,
    processes: Annotated[
        bool | None, option("One process a party, as in a real deployment.", RUN, "--processes")
    ] = None,
    fail: Annotated[
        list[str] | None, option("NAME@ROUND:PHASE: let an institution vanish there; repeatable.", RUN)
    ] = None,
    open_report: Annotated[bool, option("Show the report in a browser at the end.", RUN, "--open")] = False,
) -> None:
    """Run a whole federation on this machine: real server, clients, sockets, TLS and cryptography."""
    given = {key: value for key, value in locals().items() if key not in _OURS and value not in (None, [])}
    from fedapt_secure.config.simulate import ALL_DOMAINS, NEVER_PRIVATE, SimulateSettings  # noqa: PLC0415

    from_file, dropped = read_yaml(config) if config is not None else {}, []
    if config is not None:
        build(SimulateSettings, from_file, source=str(config))  # blame the file for its own mistakes
    if given.get("no_dp") and not {"dp_epsilon", "dp_delta"} & given.keys():
        from_file = {k: v for k, v in from_file.items() if k not in ("dp_epsilon", "dp_delta")}
    if {"dp_epsilon", "dp_delta"} & given.keys() and "no_dp" not in given:
        dropped = [name for name in NEVER_PRIVATE if from_file.get(name)] if from_file.get("no_dp") else []
        from_file = {k: v for k, v in from_file.items() if k not in ("no_dp", *dropped)}
    settings = build(SimulateSettings, from_file | given, source="simulate", as_options=True)
    console = Screen()
    if dropped:
        console.print(f"under differential privacy without {', '.join(dropped)} of {config}")
    with console.status("starting"):
        from fedapt_secure.simulate.command import simulate as run_simulation  # noqa: PLC0415 - seconds
        from fedapt_secure.simulate.leave_one_out import leave_one_out  # noqa: PLC0415
    if settings.unseen_domain == ALL_DOMAINS:
        leave_one_out(settings, console)
    else:
        finished = run_simulation(settings, console)
        if open_report and not webbrowser.open(finished[0].folder.report.resolve().as_uri()):
            console.print("there is no browser to show the report in: open the file", highlight=False)
