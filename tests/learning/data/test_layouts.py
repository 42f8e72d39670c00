"""Published data sets as they lie on disk, and what is said when something of them is missing."""

import shutil
from pathlib import Path

import pytest

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.learning.data.layouts.domainnet import DOMAINNET, DomainNet
from fedapt_secure.learning.data.layouts.office31 import OFFICE31
from fedapt_secure.learning.data.layouts.office_caltech10 import OFFICE_CALTECH10
from fedapt_secure.learning.data.layouts.officehome import OFFICEHOME
from fedapt_secure.learning.data.layouts.pacs import PACS
from fedapt_secure.learning.data.layouts.registry import LAYOUTS, read_domains
from tests.learning.data.trees import write_domainnet, write_domains, write_image

SMALL = DomainNet(class_count=4)
NAMES = ("aircraft_carrier", "The_Eiffel_Tower", "see_saw", "t-shirt")
NAMED = {"pacs": (PACS, 7), "office-caltech10": (OFFICE_CALTECH10, 10), "officehome": (OFFICEHOME, 65)}
NAMED |= {"office31": (OFFICE31, 31)}


def refused(match: str, layout: object, root: Path, wanted: tuple[str, ...] = ()) -> str:
    with pytest.raises(InvalidInput, match=match) as caught:
        layout.read(root, wanted) if not isinstance(layout, str) else read_domains(layout, root, wanted)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    return message


@pytest.mark.parametrize("name", NAMED)
class TestNamedDataSets:
    def test_it_is_read_whole(self, tmp_path: Path, name: str) -> None:
        layout, classes = NAMED[name]
        assert len(set(layout.class_names)) == len(layout.class_names) == classes
        root = write_domains(tmp_path, layout.domains, layout.class_names, images=1)
        (root / "__MACOSX" / "x").mkdir(parents=True)
        found = read_domains(name, root)
        assert tuple(found.by_domain) == layout.domains
        assert found.class_names == tuple(sorted(layout.class_names))
        for domain, records in found.by_domain.items():
            assert len(records) == classes
            assert all(record.path.is_relative_to(root / domain) for record in records)
            assert all(record.path.parent.name == found.class_names[record.label] for record in records)

    def test_missing_domains_and_classes_are_listed(self, tmp_path: Path, name: str) -> None:
        layout, classes = NAMED[name]
        root = write_domains(tmp_path, layout.domains[:-1], layout.class_names, images=1)
        refused(f"lacks {layout.domains[-1]}: .*--domains", name, root)
        some = layout.domains[:-1]
        assert tuple(read_domains(name, root, some).by_domain) == some
        for domain in some:
            shutil.rmtree(root / domain / layout.class_names[2])
        message = refused(f"has {classes} classes, .* has {classes - 1}", name, root, some)
        assert f"missing {layout.class_names[2]!r}" in message

    def test_domains_with_other_classes_are_refused(self, tmp_path: Path, name: str) -> None:
        layout, _ = NAMED[name]
        root = write_domains(tmp_path, layout.domains, layout.class_names, images=1)
        old, new = layout.class_names[0], layout.class_names[0] + "x"
        (root / layout.domains[1] / old).rename(root / layout.domains[1] / new)
        message = refused(f"{layout.domains[1]} against {layout.domains[0]}: unknown class", name, root)
        assert f"{new!r} (closest: {old!r}); missing {old!r}" in message

    def test_it_takes_no_manifest(self, tmp_path: Path, name: str) -> None:
        refused("--dataset folder, not", name, tmp_path / "list.csv")


@pytest.mark.parametrize("spelling", ["Real World", "Real_World", "RealWorld", "real-world"])
def test_real_world_is_spelled_in_many_ways(tmp_path: Path, spelling: str) -> None:
    root = write_domains(tmp_path, ("art", "Clipart", "Product", spelling), OFFICEHOME.class_names, images=1)
    found = OFFICEHOME.read(root, ())
    assert tuple(found.by_domain) == ("Art", "Clipart", "Product", "Real_World")
    assert found.by_domain["Real_World"][0].path.parent.parent == root / spelling
    assert tuple(OFFICEHOME.read(root, ["real world", "ART"]).by_domain) == ("Art", "Real_World")


def test_two_spellings_of_a_domain_are_refused(tmp_path: Path) -> None:
    root = write_domains(tmp_path, (*OFFICEHOME.domains, "Real World"), OFFICEHOME.class_names, images=1)
    refused("are the same domain of OfficeHome: keep one", OFFICEHOME, root)


def test_office31_as_it_was_published(tmp_path: Path) -> None:
    root = write_domains(tmp_path, [f"{one}/images" for one in OFFICE31.domains], OFFICE31.class_names, 1)
    found = OFFICE31.read(root, ())
    assert tuple(found.by_domain) == OFFICE31.domains
    assert len(found.class_names) == 31
    assert found.by_domain["dslr"][0].path.parent.parent == root / "dslr" / "images"


def test_a_domain_without_an_image_is_refused(tmp_path: Path) -> None:
    root = write_domains(tmp_path, PACS.domains[1:], PACS.class_names, images=1)
    (root / "art_painting" / "dog").mkdir(parents=True)
    refused("there is no image in .*art_painting", PACS, root)


class TestDomainNet:
    @pytest.mark.parametrize("folder", ["", "splits"])
    def test_the_split_files_decide(self, tmp_path: Path, folder: str) -> None:
        root = write_domainnet(tmp_path, SMALL.domains, NAMES, folder)
        write_image(root / "clipart" / "see_saw" / "not-in-the-list.png", 1)
        found = SMALL.read(root, ())
        assert found.class_names == NAMES
        assert tuple(found.by_domain) == SMALL.domains
        for domain, records in found.by_domain.items():
            assert len(records) == 12
            assert [record.split for record in records].count("test") == 4
            assert {record.name for record in records} == {
                path.relative_to(root).as_posix()
                for path in (root / domain).rglob("*.*")
                if path.stem != "not-in-the-list"
            }
            assert all(NAMES[record.label] == record.path.parent.name for record in records)

    def test_all_345_classes(self, tmp_path: Path) -> None:
        names = [f"class_{number}" for number in range(345)]
        root = write_domainnet(tmp_path, ["quickdraw"], names)
        found = DOMAINNET.read(root, ["quickdraw"])
        assert found.class_names == tuple(names)
        assert len(found.by_domain["quickdraw"]) == 3 * 345

    def test_what_is_missing_is_listed(self, tmp_path: Path) -> None:
        root = write_domainnet(tmp_path, SMALL.domains[:4], NAMES)
        refused("lacks real, sketch, real_train.txt, real_test.txt, sketch_train.txt", SMALL, root)
        assert tuple(SMALL.read(root, ["painting", "clipart"]).by_domain) == ("clipart", "painting")
        refused("has no domain 'paintings': it has clipart, infograph", SMALL, root, ("paintings",))
        refused("has 345 classes, .* name 4", DOMAINNET, root, ("clipart",))
        shutil.rmtree(root / "clipart" / "see_saw")
        (root / "painting" / "see_saw" / "112002.webp").unlink()
        refused(r"clipart lacks 1 classes \(see_saw\)", SMALL, root, ("clipart",))
        refused(r"lacks 1 images \(painting/see_saw/112002.webp\)", SMALL, root, ("painting",))
        refused("cannot read|lacks", SMALL, root / "nowhere")

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("clipart/see_saw/99000.jpg", "line 5 of .* is not 'clipart/CLASS/IMAGE NUMBER'"),
            ("clipart/see_saw/99000.jpg two", "line 5 of .* is not 'clipart/CLASS/IMAGE NUMBER'"),
            ("clipart/see_saw/99000.jpg ²", "line 5 of .* is not 'clipart/CLASS/IMAGE NUMBER'"),
            ("real/see_saw/99000.jpg 2", "line 5 of .* is not 'clipart/CLASS/IMAGE NUMBER'"),
            ("clipart/../99000.jpg 2", "line 5 of .* is not 'clipart/CLASS/IMAGE NUMBER'"),
            ("/clipart/see_saw/99000.jpg 2", "line 5 of .* is not 'clipart/CLASS/IMAGE NUMBER'"),
            ("clipart/see_saw/99001.png 2", "line 6 of .* names clipart/see_saw/99001.png again"),
            ("clipart/see_saw/99000.jpg 3", "line 6 of .* the number 2, elsewhere it has 3"),
            ("clipart/swing/99000.jpg 2", "give see_saw, swing the same number 2"),
            ("clipart/swing/99000.jpg 4", "has 4 classes, .* name 5"),
            ("clipart/see_saw/99002.webp 2", "clipart_train.txt and clipart_test.txt in .* share images"),
            ("clipart/see_saw/99003.jpg 2", r"lacks 1 images \(clipart/see_saw/99003.jpg\)"),
        ],
    )
    def test_split_files_that_contradict(self, tmp_path: Path, line: str, message: str) -> None:
        root = write_domainnet(tmp_path, ["clipart"], NAMES)
        file = root / "clipart_train.txt"
        right = "clipart/see_saw/99000.jpg 2\n"
        assert right in file.read_text()
        file.write_text(file.read_text().replace(right, f"{line}\n"))
        refused(message, SMALL, root, ("clipart",))

    def test_a_split_file_that_is_no_text(self, tmp_path: Path) -> None:
        root = write_domainnet(tmp_path, ["clipart"], NAMES)
        (root / "clipart_test.txt").write_bytes(b"\xff\xfe")
        refused("not UTF-8 text", SMALL, root, ("clipart",))


class TestAnyFolderAndManifest:
    def test_a_folder(self, tmp_path: Path) -> None:
        root = write_domains(tmp_path, ("b", "a"), ("y", "x"))
        found = read_domains("folder", root)
        assert (tuple(found.by_domain), found.class_names) == (("a", "b"), ("x", "y"))
        assert found.by_domain["a"][0].name == "a/x/1000.jpg"
        assert tuple(read_domains("folder", root, ["b"]).by_domain) == ("b",)
        refused("has no domain 'c': it has a, b", "folder", root, ("c",))

    def test_domains_that_differ_in_spelling_alone_are_two(self, tmp_path: Path) -> None:
        root = write_domains(tmp_path, ("real world", "Real_World"), ("y", "x"))
        assert tuple(read_domains("folder", root).by_domain) == ("Real_World", "real world")
        assert tuple(read_domains("folder", root, ["real world"]).by_domain) == ("real world",)
        refused("has no domain 'realworld'", "folder", root, ("realworld",))

    def test_a_manifest(self, tmp_path: Path) -> None:
        manifest = tmp_path / "list.csv"
        manifest.write_text(
            "split,label,path,subject,domain\n"
            "train,x,1.png,p1,b\n,y,2.png,p2,b\ntest,y,3.png,p1,a\ntrain,x,4.png,p3,a\n"
        )
        found = read_domains("folder", manifest)
        assert (tuple(found.by_domain), found.class_names) == (("a", "b"), ("x", "y"))
        assert [(one.name, one.label, one.split, one.subject) for one in found.by_domain["b"]] == [
            ("1.png", 0, "train", "p1"),
            ("2.png", 1, None, "p2"),
        ]
        assert tuple(read_domains("folder", manifest, ["a"]).by_domain) == ("a",)

    def test_a_manifest_without_domains_has_one(self, tmp_path: Path) -> None:
        manifest = tmp_path / "list.csv"
        manifest.write_text("path,label\n1.png,x\n2.png,y\n")
        assert list(read_domains("folder", manifest).by_domain) == ["all"]
        manifest.write_text("path,label\n")
        refused("there is no image", "folder", manifest)


def test_every_layout_says_where_nothing_is(tmp_path: Path) -> None:
    for name in LAYOUTS:
        refused("cannot read|lacks", name, tmp_path / "nowhere")
        refused("lacks|no domain folder", name, tmp_path)
