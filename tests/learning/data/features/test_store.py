"""The cache on disk: verified shards, permissions, several processes, kill and interrupt."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fedapt_crypto.errors import InvalidInput
from fedapt_secure.config.locking import locked
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.features.shard import (
    DamagedShard,
    Shard,
    is_shard,
    read_shard,
    shard_digests,
    write_shard,
)
from fedapt_secure.learning.data.features.store import (
    LOCK,
    FeatureStore,
    StoreIdentity,
    clear,
    holds_stores,
    summaries,
)
from fedapt_secure.learning.data.reading.records import read_records

IDENTITY = StoreIdentity(model="tiny", weights="w", preprocessing="p", feature_size=3, view="plain")


def shard_of(*numbers, size=3):
    return Shard(
        np.array([[number] * 32 for number in numbers], np.uint8).reshape(len(numbers), 32),
        np.array([[number] * size for number in numbers], np.float32).reshape(len(numbers), size),
        np.array([number % 2 == 0 for number in numbers]),
        {row: "not an image" for row, number in enumerate(numbers) if number % 2},
    )


def contents(shards):
    return [shard.features[:, 0].tolist() for shard in shards]


class TestShard:
    @given(
        st.integers(0, 5).flatmap(
            lambda count: st.tuples(
                st.lists(st.binary(min_size=32, max_size=32), min_size=count, max_size=count),
                st.lists(
                    st.lists(st.floats(width=32, allow_nan=False), min_size=4, max_size=4),
                    min_size=count,
                    max_size=count,
                ),
                st.lists(st.booleans(), min_size=count, max_size=count),
                st.dictionaries(st.integers(0, 10), st.text(max_size=20)),
            )
        )
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_what_is_read_is_what_was_written(self, tmp_path, parts):
        digests, features, usable, remarks = parts
        shard = Shard(
            np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
            np.array(features, np.float32).reshape(-1, 4),
            np.array(usable, np.bool_),
            remarks,
        )
        path = write_shard(tmp_path, shard)
        found = read_shard(path, 4)
        assert is_shard(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert np.array_equal(found.digests, shard.digests)
        assert found.features.tobytes() == shard.features.tobytes()
        assert np.array_equal(found.usable, shard.usable)
        assert found.remarks == remarks
        assert np.array_equal(shard_digests(path), shard.digests)
        path.unlink()

    @given(st.data())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_any_damage_is_found(self, tmp_path, data):
        path = write_shard(tmp_path, shard_of(1, 2, 3, 4))
        whole = path.read_bytes()
        if data.draw(st.booleans()):
            place, flip = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
            damaged = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
        else:
            damaged = whole[: data.draw(st.integers(0, len(whole) - 1))]
        path.write_bytes(damaged)
        with pytest.raises(DamagedShard, match="changed"):
            read_shard(path, 3)

    @given(st.binary(max_size=200))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_other_content_under_its_right_name_is_no_shard(self, tmp_path, content):
        path = tmp_path / f"{hashlib.sha256(content).hexdigest()}.safetensors"
        path.write_bytes(content)
        with pytest.raises(DamagedShard):
            read_shard(path, 3)
        with pytest.raises(DamagedShard):
            shard_digests(path)
        path.unlink()

    def test_a_shard_of_another_size_does_not_fit(self, tmp_path):
        path = write_shard(tmp_path, shard_of(1, 2, size=4))
        with pytest.raises(DamagedShard, match="sizes"):
            read_shard(path, 3)


class TestStore:
    def test_each_shard_is_read_once_and_what_comes_later_too(self, tmp_path):
        one, other = FeatureStore(tmp_path / "cache", IDENTITY), FeatureStore(tmp_path / "cache", IDENTITY)
        one.add(shard_of(1, 2))
        assert contents(one.unread()) == []
        assert contents(other.unread()) == [[1, 2]]
        one.add(shard_of(3))
        assert contents(other.unread()) == [[3]]
        assert contents(other.unread()) == []

    @pytest.mark.parametrize(
        "change",
        [{"model": "m"}, {"weights": "v"}, {"preprocessing": "q"}, {"feature_size": 4}, {"view": "dark"},
         {"version": 1}],
    )  # fmt: skip
    def test_whatever_features_depend_on_makes_another_store(self, tmp_path, change):
        FeatureStore(tmp_path / "cache", IDENTITY).add(shard_of(1))
        assert contents(FeatureStore(tmp_path / "cache", replace(IDENTITY, **change)).unread()) == []

    def test_a_damaged_shard_is_removed_and_the_others_stay(self, tmp_path, caplog):
        store = FeatureStore(tmp_path / "cache", IDENTITY)
        store.add(shard_of(1))
        store.add(shard_of(2))
        victim = next((tmp_path / "cache").glob("*/*.safetensors"))
        victim.write_bytes(b"x" + victim.read_bytes()[1:])
        assert len(contents(FeatureStore(tmp_path / "cache", IDENTITY).unread())) == 1
        assert "damaged and is made again" in caplog.text
        assert victim.stem not in caplog.text
        assert not victim.exists()

    def test_a_cache_that_others_could_read_is_closed_with_a_warning(self, tmp_path, caplog):
        cache = tmp_path / "cache"
        store = FeatureStore(cache, IDENTITY)
        store.add(shard_of(1))
        (file,) = cache.glob("*/*.safetensors")
        cache.chmod(0o755)
        file.chmod(0o644)
        assert contents(FeatureStore(cache, IDENTITY).unread()) == [[1]]
        assert cache.stat().st_mode & 0o777 == 0o700
        assert file.parent.stat().st_mode & 0o777 == 0o700
        assert file.stat().st_mode & 0o777 == 0o600
        assert caplog.text.count("could be read by others") == 2

    def test_a_cache_that_others_could_change_is_refused(self, tmp_path):
        cache = tmp_path / "cache"
        FeatureStore(cache, IDENTITY).add(shard_of(1))
        cache.chmod(0o770)
        with pytest.raises(InvalidInput, match="others could change .* cache clear"):
            FeatureStore(cache, IDENTITY)
        clear(cache)
        (cache / LOCK).unlink()
        FeatureStore(cache, IDENTITY)
        assert cache.stat().st_mode & 0o777 == 0o700, "an empty folder is taken over"

    def test_a_cache_that_cannot_be_made_says_so_in_one_line(self, tmp_path):
        (tmp_path / "file").write_text("")
        for cache in (tmp_path / "file", tmp_path / "file" / "cache"):
            with pytest.raises(InvalidInput, match="cannot use the feature cache .*choose another place"):
                FeatureStore(cache, IDENTITY)

    def test_one_encodes_while_the_other_waits_and_can_give_up(self, tmp_path, caplog):
        store = FeatureStore(tmp_path / "cache", IDENTITY)
        asked = []

        def give_up():
            asked.append(1)
            if len(asked) == 2:
                raise KeyboardInterrupt

        with locked(tmp_path / "cache" / LOCK):
            with pytest.raises(KeyboardInterrupt), store.encoding(give_up):
                pytest.fail("two at a time")
            with pytest.raises(InvalidInput, match="try again"):
                clear(tmp_path / "cache")
        assert caplog.text.count("another process fills the feature cache") == 1
        with store.encoding(lambda: pytest.fail("nobody is there any more")):
            pass


class TestShowAndClear:
    def test_what_is_there(self, tmp_path):
        cache = tmp_path / "cache"
        assert summaries(cache) == []
        assert not holds_stores(cache)
        store = FeatureStore(cache, IDENTITY)
        store.add(shard_of(1, 2))
        store.add(shard_of(2, 3, 4))
        before = time.time() - 1000
        os.utime(cache / IDENTITY.folder_name / "about.json", (before, before))
        (found,) = summaries(cache)
        assert holds_stores(cache)
        assert found.identity == IDENTITY
        assert found.images == 4
        assert found.size_bytes == sum(path.stat().st_size for path in found.path.iterdir())
        assert found.last_used.timestamp() == pytest.approx(before)
        FeatureStore(cache, IDENTITY)
        assert summaries(cache)[0].last_used.timestamp() > before + 500

    def test_a_store_whose_description_is_broken_is_shown_and_cleared(self, tmp_path):
        FeatureStore(tmp_path / "cache", IDENTITY).add(shard_of(1))
        (tmp_path / "cache" / IDENTITY.folder_name / "about.json").write_text("{")
        (tmp_path / "cache" / IDENTITY.folder_name / ("0" * 64 + ".safetensors")).write_bytes(b"")
        (found,) = summaries(tmp_path / "cache")
        assert (found.identity, found.images) == (None, 1)
        assert clear(tmp_path / "cache") == found.size_bytes
        assert summaries(tmp_path / "cache") == []

    def test_one_model_goes_and_the_others_stay(self, tmp_path):
        cache = tmp_path / "cache"
        other = replace(IDENTITY, model="ViT-B-32")
        for identity in (IDENTITY, other):
            FeatureStore(cache, identity).add(shard_of(1))
        old = cache / ("0" * 64 + ".safetensors")
        old.write_bytes(b"of an earlier version")
        clear(cache, "tiny")
        assert [one.identity for one in summaries(cache)] == [other]
        assert old.exists()
        clear(cache)
        assert [path.name for path in cache.iterdir()] == [LOCK]


@pytest.fixture
def images(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images" / "cat").mkdir(parents=True)
    for number in range(600):
        picture = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8))
        picture.save(tmp_path / "images" / "cat" / f"{number:03d}.png")
    return tmp_path / "images"


ENCODE = """
import hashlib
import signal
import sys
from pathlib import Path
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.data.features.image_features import load_features
from fedapt_secure.learning.data.reading.records import read_records

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background

def tell(done, total):
    print(done, flush=True)
    if done == int(sys.argv[3]):
        sys.stdin.readline()  # until we are killed

records = read_records(Path(sys.argv[1])).records
found = load_features(records, load_backbone(), Path(sys.argv[2]), tell)
print(hashlib.sha256(found.features.numpy().tobytes()).hexdigest())
"""


def encoding(images, cache, stop_at):
    command = [sys.executable, "-c", ENCODE, str(images), str(cache), str(stop_at)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def told_until(process, stop_at):
    told = []
    while not told or told[-1] != stop_at:
        told.append(int(process.stdout.readline()))
    return told


@pytest.mark.integration
@pytest.mark.parametrize(("number", "kept"), [(signal.SIGKILL, 256), (signal.SIGINT, 384)])
@pytest.mark.slow  # encodes many images
def test_a_killed_or_interrupted_run_is_taken_up_where_it_was(tmp_path, images, tiny, number, kept):
    cache = tmp_path / "cache"
    process = encoding(images, cache, 384)
    assert told_until(process, 384)[0] == 64, "the first run starts from nothing"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert summaries(cache)[0].images == kept, "what is on disk is whole"
    assert [path.name for path in cache.iterdir() if path.name.startswith("tmp")] == [], (
        "no rows are left behind"
    )

    told = []
    records = read_records(images).records
    found = load_features(records, tiny, cache, lambda done, total: told.append((done, total)))
    assert told[0] == (kept + 64, 600)
    torch.testing.assert_close(
        found.features, load_features(records, tiny, None).features, atol=1e-5, rtol=1e-4
    )


@pytest.mark.integration
@pytest.mark.slow  # encodes many images
def test_two_processes_on_one_cache_encode_each_image_once(tmp_path, images, tiny):
    cache = tmp_path / "cache"
    first = encoding(images, cache, 64)
    told_until(first, 64)  # it holds the lock, and waits
    results, told = [], []
    records = read_records(images).records

    def load():
        results.append(load_features(records, tiny, cache, lambda done, total: told.append(done)).features)

    second = threading.Thread(target=load)
    second.start()
    while not told:
        time.sleep(0.01)
    output, _ = first.communicate("\n", timeout=60)
    second.join(timeout=60)
    assert first.returncode == 0
    assert hashlib.sha256(results[0].numpy().tobytes()).hexdigest() == output.split()[-1]
    assert told[-1] == 600
    assert sum(len(shard_digests(path)) for path in cache.glob("*/*.safetensors")) == 600


def test_the_description_holds_no_secrets(tmp_path):
    FeatureStore(tmp_path / "cache", IDENTITY).add(shard_of(1))
    about = json.loads((tmp_path / "cache" / IDENTITY.folder_name / "about.json").read_text())
    assert set(about) == {
        *("model", "weights", "preprocessing", "feature_size", "view", "version", "precision", "model_hash"),
        "reading",
    }
    assert "1, 1" not in repr(shard_of(1))
