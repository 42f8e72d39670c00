import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.inference.evaluating import evaluate_on
from fedapt_secure.inference.labelled import ALL_IMAGES, read_labelled
from fedapt_secure.inference.pictures import draw_confusion, draw_routing
from fedapt_secure.inference.predictor import load_model
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.records import is_test, read_records
from fedapt_secure.learning.evaluation.scores import evaluate


@pytest.fixture(scope="module")
def part(digits, tmp_path_factory):
    """A few images of each class and domain, one of them broken."""
    root = tmp_path_factory.mktemp("part")
    for path in sorted(digits[0].glob("*/*/*.png")):
        target = root / path.relative_to(digits[0])
        target.parent.mkdir(parents=True, exist_ok=True)
        if len(list(target.parent.iterdir())) < 6:
            shutil.copy(path, target)
    broken = root / "chalk" / "six" / "broken.png"
    broken.write_bytes(b"broken")
    return root


def test_the_figures_are_those_that_institutions_get_at_home(model, part):
    found = evaluate_on(model, read_labelled(part, model.class_names, "test"))
    for index, domain in enumerate(model.domains):
        records = read_records(part / domain, model.class_names).records
        features, labels = load_features(records, model.classifier.backbone, None).test
        zero_shot = torch.nn.functional.normalize(torch.ones(10, 64), dim=1)
        expected = evaluate(model.classifier, zero_shot, features, labels, {index})
        assert found.by_domain[domain] == expected.tally
        fields = found.to_fields()["per_domain"][domain]
        assert fields["top_1"] == expected.tuned_accuracy
        assert fields["right_key"] == expected.routing_share


def test_split_and_broken_images(model, part):
    counts = {}
    for split in ("test", "train", "all"):
        data = read_labelled(part, model.class_names, split)
        found = evaluate_on(model, data)
        counts[split] = found.total.images + len(found.skipped)
        names = [name for name, _ in found.skipped]
        on_this_side = split == "all" or is_test(b"broken") == (split == "test")
        assert names == ([str(part / "chalk" / "six" / "broken.png")] if on_this_side else [])
    assert counts["test"] + counts["train"] == counts["all"] == 121
    assert 0 < counts["test"] < counts["train"]


def test_the_counts_add_up(model, part):
    found = evaluate_on(model, read_labelled(part, model.class_names, "all"))
    fields = found.to_fields()
    assert json.loads(json.dumps(fields, allow_nan=False)) == fields
    assert fields["images"] == 120 == sum(one["support"] for one in fields["per_class"])
    assert [one["support"] for one in fields["per_class"]] == [12] * 10
    assert sum(map(sum, fields["routing"]["counts"].values())) == 120
    assert list(fields["per_domain"]) == list(model.domains), (
        "in key order, so that the diagonal is what is right"
    )
    assert fields["mean_over_domains"]["top_1"] == pytest.approx(
        np.mean([one["top_1"] for one in fields["per_domain"].values()])
    )
    assert fields["mean_recall"] == pytest.approx(np.mean([one["recall"] for one in fields["per_class"]]))


def test_one_folder_a_manifest_and_a_method_without_domains(model, promptfl_file, part, tmp_path):
    folder = evaluate_on(model, read_labelled(part / "ink", model.class_names, "all"))
    manifest = tmp_path / "images.csv"
    rows = [f"{path},{path.parent.name}" for path in sorted((part / "ink").glob("*/*.png"))]
    manifest.write_text("\n".join(["path,label", *rows]) + "\n")
    listed = evaluate_on(model, read_labelled(manifest, model.class_names, "all"))
    assert list(folder.by_domain) == [ALL_IMAGES] == list(listed.by_domain)
    assert folder.total == listed.total
    assert not folder.knows_domains
    assert folder.to_fields()["per_domain"][ALL_IMAGES]["right_key"] is None
    plain = evaluate_on(load_model(promptfl_file), read_labelled(part, model.class_names, "all"))
    assert plain.to_fields()["routing"] is None
    assert plain.total.images == 120


def test_unusable_data_are_one_clear_line(model, part, tmp_path):
    cases = [
        ("split is test, train or all", part, "some"),
        ("cannot read", tmp_path / "absent", "all"),
        ("there is no image", tmp_path, "all"),
    ]
    for message, data, split in cases:
        with pytest.raises(InvalidInput, match=message):
            read_labelled(data, model.class_names, split)
    (tmp_path / "odd" / "cat").mkdir(parents=True)
    shutil.copy(next(part.glob("*/*/*.png")), tmp_path / "odd" / "cat")
    with pytest.raises(InvalidInput, match="unknown class 'cat'"):
        read_labelled(tmp_path / "odd", model.class_names, "all")
    (tmp_path / "bad" / "six").mkdir(parents=True)
    (tmp_path / "bad" / "six" / "one.png").write_bytes(b"")
    with pytest.raises(InvalidInput, match="none of the 1 images can be used"):
        evaluate_on(model, read_labelled(tmp_path / "bad", model.class_names, "all"))
    side = "train" if not is_test(b"") else "test"
    other = {"train": "test", "test": "train"}[side]
    with pytest.raises(InvalidInput, match=f"no image for {other}"):
        read_labelled(tmp_path / "bad", model.class_names, other)


class TestPictures:
    pytest.importorskip("matplotlib")

    def test_they_are_pictures_and_equal_figures_give_equal_files(self, tmp_path):
        counts = np.array([[5, 1], [0, 0]])
        names = ["cost $x_1$", "a name that is much longer than any that fits"]
        hashes = []
        for folder in (tmp_path / "one", tmp_path / "two" / "deeper"):
            files = draw_confusion(folder, counts, names) + draw_routing(folder, counts, names, names)
            assert [path.name for path in files] == [
                "confusion.png", "confusion.svg", "routing.png", "routing.svg",
            ]  # fmt: skip
            assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
            for path in files[::2]:
                with Image.open(path) as picture:
                    assert min(picture.size) > 400
            hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
        assert hashes[0] == hashes[1]
        text = (tmp_path / "one" / "confusion.svg").read_text()
        assert "cost $x_1$" in text
        assert ">5<" in text
        assert "true class" in text

    def test_of_many_classes_only_some_are_named(self, tmp_path):
        names = [f"class-{number:03d}" for number in range(345)]
        png, svg = draw_confusion(tmp_path, np.eye(345, dtype=np.int64), names)
        text = svg.read_text()
        named = [name for name in names if name in text]
        assert named == names[::8]
        assert "345 classes, each 8th is named" in text
        with Image.open(png) as picture:
            assert max(picture.size) < 3000

    def test_a_file_in_the_way_is_one_clear_line(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(InvalidInput, match="cannot write the pictures"):
            draw_confusion(tmp_path / "file", np.eye(2, dtype=np.int64), ["a", "b"])


def test_the_module_of_pictures_loads_no_matplotlib():
    code = "import sys, fedapt_secure.inference.pictures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
