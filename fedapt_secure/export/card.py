"""The model card, ``README.md``: what is known of an exported model, and what is not.

Nothing is said that does not follow from the bundle, the logs or the evaluation that were given, or from the
check of the export itself. Names are data: none of them becomes Markdown or YAML.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from fedapt_secure.audit.report import wording
from fedapt_secure.audit.report.markdown import code, plain, table
from fedapt_secure.export.accuracy_facts import AccuracyFacts
from fedapt_secure.export.checking import TIE, TOLERANCE, Checked
from fedapt_secure.export.clip_facts import HUB, model_said, weights_said
from fedapt_secure.export.privacy_facts import PrivacyFacts
from fedapt_secure.learning.bundle import Bundle
from fedapt_secure.learning.clip.backbone import RANDOM, TINY
from fedapt_secure.protocol.methods import COCOOP, METHODS

FILE: Final = "README.md"
_LIBRARIES: Final = {"onnx": "onnx", "torchscript": "pytorch", "open-clip": "open_clip"}
_NOT_MEASURED: Final = (
    "Not known from the bundle: give `--evaluation` with what `fedapt-secure evaluate --json` printed."
)
_OUTSIDE: Final = (
    "These figures follow from images without noise; that they are shared is outside the privacy guarantee."
)
_LIMITS: Final = (
    "It tells the classes below apart and nothing else: every image gets one of them, also one that shows"
    " none of them.",
    "Probabilities are the softmax of the logits and not calibrated.",
    "How well it does on other images than those of its training and evaluation is not known. Measure it on"
    " your own before you rely on it.",
    "What the CLIP's own pre-training has seen, and what follows from that, is outside every privacy"
    " guarantee here.",
    "An image whose features are not finite has no answer: `fedapt-secure predict` skips it, this form gives"
    " values that are not numbers.",
)


@dataclass(frozen=True)
class ExportedFile:
    """A file of the folder: its name, size and SHA-256 (hex)."""

    name: str
    size_bytes: int
    digest: str


@dataclass(frozen=True)
class CardFacts:
    """All that a card says.

    Attributes:
        form: ``onnx``, ``torchscript`` or ``open-clip``.
        bundle: The model. digest: SHA-256 of its file.
        files: What lies beside the card.
        checked: What was compared.
        privacy, accuracy: What was given; ``None`` where nothing was.
        versions: Name and version of programs that it was made with.
        opset: Of the ONNX file.
        inputs, outputs: What goes in and comes out, Markdown.
        use: How to run it, Markdown lines.
    """

    form: str
    bundle: Bundle
    digest: str
    files: Sequence[ExportedFile]
    checked: Checked
    privacy: PrivacyFacts | None
    accuracy: AccuracyFacts | None
    versions: Sequence[tuple[str, str]]
    opset: int | None
    use: Sequence[str]


def card(facts: CardFacts) -> str:
    """Return the card as Markdown with its fields in front."""
    fields = yaml.safe_dump(_fields(facts), sort_keys=False, allow_unicode=False)
    sections = (
        ("What it is", _what(facts)),
        ("How to run it", [*facts.use]),
        ("Classes", table(["index", "class"], _numbered(facts.bundle.class_names))),
        ("Domains", _domains(facts)),
        ("Privacy", _privacy(facts.privacy)),
        ("Accuracy", _accuracy(facts.accuracy)),
        ("Use and limits", [f"- {one}" for one in _LIMITS]),
        ("How to verify", _verify(facts)),
    )
    text = "\n\n".join(f"## {title}\n" + "\n".join(lines) for title, lines in sections)
    return f"---\n{fields}---\n\n# {_title(facts.bundle)}\n\n{text}\n"


def _fields(facts: CardFacts) -> dict[str, Any]:
    model = facts.bundle.model
    fields: dict[str, Any] = {
        "library_name": _LIBRARIES[facts.form],
        "pipeline_tag": "image-classification",
        "tags": ["clip", "fedapt-secure", facts.bundle.shape.method],
    }
    if model == TINY and facts.bundle.pretrained != RANDOM:
        fields["license"] = "apache-2.0"
    if model.startswith(HUB):
        fields["base_model"] = model.removeprefix(HUB)
    return fields


def _title(bundle: Bundle) -> str:
    return f"An image classifier: {METHODS[bundle.shape.method].title} on {plain(model_said(bundle))}"


def _what(facts: CardFacts) -> list[str]:
    bundle, shape = facts.bundle, facts.bundle.shape
    tag = weights_said(bundle)
    weights = "" if tag is None else f", weights {plain(tag)}"
    licence = (
        "The CLIP's weights are under Apache-2.0, as fedapt-secure is."
        if bundle.model == TINY
        else "Under which licence the CLIP's weights are is not known from the bundle, and so that of this"
        " model is not either."
    )
    return [
        f"A CLIP ({plain(model_said(bundle))}{weights}) with what the method {METHODS[shape.method].title} of"
        f" fedapt-secure tuned for {shape.classes} classes. This folder is its form {code(facts.form)}"
        f"{'' if facts.opset is None else f', opset {facts.opset}'}. Whether and with whom it was trained"
        " federatedly the bundle does not say.",
        "",
        f"Prior weight {bundle.prior_weight:g}: that share of what it compares is the untuned CLIP's, the"
        " rest was tuned. The bundle may say another weight than this export was asked for.",
        "",
        licence,
    ]


def _numbered(names: Sequence[str]) -> list[list[str]]:
    return [[str(place), plain(name)] for place, name in enumerate(names)]


def _domains(facts: CardFacts) -> list[str]:
    bundle, checked = facts.bundle, facts.checked
    lines = ["Names of the domains that took part, as the bundle has them:", ""]
    lines += table(["", "domain"], _numbered(bundle.domains))
    lines.append("")
    if bundle.keys is None:
        if bundle.shape.method == COCOOP:
            return [*lines, "The method has no domain keys. Every image has prompts of its own."]
        return [*lines, "The method has no domain keys: all images are answered with the same knowledge."]
    count = len(bundle.key_names)
    lines += [f"Domain keys: {count}. What `domain` counts:", ""]
    lines += table(["index", "key of"], _numbered(bundle.key_names))
    return [*lines, "", *between_keys(bundle, checked)]


def between_keys(bundle: Bundle, checked: Checked) -> list[str]:
    """Return how samples between two keys are treated, and how many there were."""
    if len(bundle.key_names) == 1:
        return ["With one key alone there is nothing to choose: it answers every image."]
    untried = "" if checked.between else " So what happens to images between keys was not tried."
    return [
        f"Each image is routed by one score a key: standardised over the keys, divided by τ ="
        f" {bundle.temperature:g}, softmax. A key with a weight of at least 1 - 1e-6 answers alone. Else the"
        " image lies **between keys** and gets prompts of its own, under the weighted mean of the keys,"
        " through the text tower, exactly as in `fedapt-secure predict`; `domain` then is the key with the"
        " most weight.",
        "",
        f"Of the {checked.images} images of the check, {checked.between} lay between keys.{untried}"
        f" {checked.ties} were at a tie: the two best scores differ by less than {TIE:g} of the product of"
        " the lengths of feature and key's vector. There rounding decides which key has more weight, and"
        " another machine may say the other one. Images of both kinds were compared with our own logits"
        " under the weights that the exported form says.",
    ]


def _privacy(found: PrivacyFacts | None) -> list[str]:
    if found is None:
        return ["Not known from the bundle: give `--log` with the logs of its session."]
    lines = [
        f"From the logs of {found.institutions} institution{'' if found.institutions == 1 else 's'} that say"
        f" that they end with this model; the audit of these logs says {plain(found.verdict)}. Others who may"
        " have taken part are not covered.",
        "",
    ]
    if found.guarantees:
        rows = [
            [
                str(number),
                wording.number(one.epsilon),
                f"{one.delta:.2e}",
                plain(one.unit),
                plain(one.composition),
            ]
            for number, one in enumerate(found.guarantees, 1)
        ]
        lines += table(["data set", "ε at most", "δ", "unit", "composition"], rows)
        lines += [
            "",
            "ε counts all sessions on the same data set that these logs tell of, with their whole plans.",
        ]
    if found.unprotected:
        lines.append(
            f"\n**{found.unprotected} of these institutions trained without differential privacy in at least"
            " one session: nothing bounds what may be learnt of their data.**"
        )
    return [*lines, "", plain(found.not_proved)]


def _accuracy(found: AccuracyFacts | None) -> list[str]:
    if found is None:
        return [_NOT_MEASURED]
    rows = [["all", str(found.images), f"{found.top_1:.1%}"]]
    rows += [[plain(name), str(one.images), f"{one.top_1:.1%}"] for name, one in found.per_domain.items()]
    return [
        f"As whoever exported it measured with `fedapt-secure evaluate` (split {plain(found.split)}); top-5"
        f" {found.top_5:.1%}, mean recall over classes {found.mean_recall:.1%}.",
        "",
        *table(["domain", "images", "top-1"], rows),
        "",
        _OUTSIDE,
    ]


def _verify(facts: CardFacts) -> list[str]:
    checked = facts.checked
    rows = [[plain(one.name), str(one.size_bytes), code(one.digest)] for one in facts.files]
    made = checked.images - checked.given
    return [
        f"SHA-256 of the bundle `model.safetensors`: {code(facts.digest)}. Institutions have it in their"
        " signed logs (`session_ended`). SHA-256 of the CLIP's weights, as `fedapt-secure model-info` prints"
        f" it: {code(facts.bundle.weight_hash)}.",
        "",
        *table(["file", "bytes", "SHA-256"], rows),
        "",
        f"Compared with `fedapt-secure predict` on {checked.images} images ({made} made, {checked.given}"
        f" given): same labels; largest difference of a logit {checked.largest:.1e} of the largest logit"
        f" ({TOLERANCE:g} is allowed).",
        "",
        "Made with " + ", ".join(f"{plain(name)} {plain(version)}" for name, version in facts.versions) + ".",
    ]
