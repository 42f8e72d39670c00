"""Replayed text towers give what the plain way gives; without a GPU they are the plain way."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fedapt_secure.learning.clip import graphs
from fedapt_secure.learning.clip.backbone import load_backbone
from fedapt_secure.learning.clip.device import resolve_device
from fedapt_secure.learning.clip.graphs import Recording, replayed
from fedapt_secure.learning.clip.text import PromptedText

CLASS_NAMES = ("cat", "fire_truck", "sea anemone")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")


class Deciding(PromptedText):
    """Prompts whose encoding looks at a value, which no graph can."""

    def encode(self, contexts):
        return super().encode(contexts * 1.0 if contexts.sum().item() > 0 else contexts)


@pytest.fixture(autouse=True)
def without_recordings():
    graphs.forget()
    yield
    graphs.forget()


@pytest.fixture(params=["float32", "bfloat16"])
def on_gpu(request):
    return load_backbone(device=resolve_device("cuda"), precision=request.param)


def make_contexts(text, seed):
    shape = (1, len(text.class_names), 4, 64) if text.class_specific else (1, 4, 64)
    values = 0.02 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return values.to(text.backbone.device).requires_grad_()


def there_and_back(encode, contexts, seed):
    """Return features and a gradient for them."""
    features = encode(contexts)
    towards = torch.randn(features.shape, generator=torch.Generator().manual_seed(seed)).to(features.device)
    (gradient,) = torch.autograd.grad(features, contexts, towards)
    return features.detach(), gradient


def by_replay(text, seed):
    contexts = make_contexts(text, seed)
    with replayed(text, contexts) as encode:
        return there_and_back(encode, contexts, seed)


def assert_plain(text, found, seed):
    expected = there_and_back(text.encode, make_contexts(text, seed), seed)
    for one, other in zip(found, expected, strict=True):
        bound = 1e-5 if text.backbone.precision == "float32" else 1e-2
        assert float((one - other).norm() / other.norm()) < bound


def recorded(text):
    return graphs._shared(text, make_contexts(text, 0))._recording is not None


def test_on_a_cpu_it_is_the_plain_way(tiny):
    text = PromptedText(tiny, CLASS_NAMES, 4)
    with replayed(text, make_contexts(text, 0)) as encode:
        assert encode == text.encode
    assert not graphs._kept


def test_a_layout_says_what_computes_the_same(tiny):
    one = PromptedText(tiny, CLASS_NAMES, 4)
    assert one.layout == PromptedText(tiny, list(CLASS_NAMES), 4).layout
    others = (
        PromptedText(tiny, CLASS_NAMES[:2], 4),
        PromptedText(tiny, CLASS_NAMES, 5),
        PromptedText(tiny, CLASS_NAMES, 4, class_specific=False),
        PromptedText(tiny, CLASS_NAMES, 4, class_specific=False, share_context=False),
        PromptedText(tiny, CLASS_NAMES, 4, cut_at_eot=False),
    )
    assert len({one.layout, *(other.layout for other in others)}) == 6


@needs_gpu
@pytest.mark.parametrize("class_specific", [True, False])
def test_replaying_gives_what_the_plain_way_gives(on_gpu, class_specific, caplog):
    text = PromptedText(on_gpu, CLASS_NAMES, 4, class_specific)
    found = [by_replay(text, seed) for seed in range(4)]
    for seed, one in enumerate(found):  # all kept: a later turn must not write into an earlier one's
        assert_plain(text, one, seed)
    assert recorded(text)
    assert not caplog.records


@needs_gpu
def test_threads_that_share_a_recording(on_gpu):
    texts = [PromptedText(on_gpu, CLASS_NAMES, 4) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: by_replay(texts[seed % 4], seed), range(40)))
    for seed, one in enumerate(found):
        assert_plain(texts[0], one, seed)
    assert len(graphs._kept) == 1
    assert recorded(texts[3])


@needs_gpu
def test_threads_that_record_while_others_compute(on_gpu):
    texts = [PromptedText(on_gpu, [f"thing {n}" for n in range(2 + count)], 4) for count in range(3)]
    plain = PromptedText(on_gpu, CLASS_NAMES, 4)

    def work(seed):
        if seed % 4 == 3:  # copies to and from the GPU, memory, and passes of another's
            return [part.cpu() for part in there_and_back(plain.encode, make_contexts(plain, seed), seed)]
        return by_replay(texts[seed % 4], seed)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(40)))
    for seed, one in enumerate(found):
        text = plain if seed % 4 == 3 else texts[seed % 4]
        assert_plain(text, [part.to(on_gpu.device) for part in one], seed)


@needs_gpu
def test_a_gradient_that_comes_too_late_is_refused():
    text = PromptedText(load_backbone(device=resolve_device("cuda")), CLASS_NAMES, 4)
    contexts = make_contexts(text, 0)
    recording = Recording(text.encode, contexts)
    first = recording(contexts)
    recording(contexts)
    with pytest.raises(RuntimeError, match="encoded before the gradient"):
        torch.autograd.grad(first.sum(), contexts)


@needs_gpu
def test_what_cannot_be_recorded_is_computed_the_plain_way_and_said_once(on_gpu, caplog):
    text = Deciding(on_gpu, CLASS_NAMES, 4)
    for seed in range(3):
        assert_plain(text, by_replay(text, seed), seed)
    assert ["is not recorded as a CUDA graph" in one.message for one in caplog.records] == [True]


@needs_gpu
def test_too_much_memory_is_not_kept(on_gpu, caplog, monkeypatch):
    monkeypatch.setattr(graphs, "MEMORY_SHARE", 1 << 40)
    text = PromptedText(on_gpu, CLASS_NAMES, 4)
    assert_plain(text, by_replay(text, 0), 0)
    assert not recorded(text)
    assert "is not kept" in caplog.text


@needs_gpu
def test_few_recordings_are_kept(on_gpu):
    for count in range(2, 4 + graphs.MOST_RECORDINGS):
        by_replay(PromptedText(on_gpu, [f"thing {n}" for n in range(count)], 4), count)
    assert len(graphs._kept) == graphs.MOST_RECORDINGS
