import torch
import torch.nn.functional as F

from fedapt_secure.learning.evaluation.scores import Scores, evaluate, zero_shot_correct
from fedapt_secure.learning.methods.fedapt import FedAptModel


def test_counts_are_those_of_the_predictions(prompted):
    text = prompted()
    generator = torch.Generator().manual_seed(0)
    model = FedAptModel(
        text,
        torch.randn(3, 4, 64, generator=generator),
        torch.randn(2, 64, generator=generator),
        torch.rand(2, 4, 64, generator=generator),
    )
    features, labels = torch.randn(50, 64, generator=generator), torch.randint(3, (50,), generator=generator)
    zero_shot = text.zero_shot("a photo of a {}")
    scores = evaluate(model, zero_shot, features, labels, {1})
    assert scores.test_records == 50
    assert scores.tuned_correct == sum(
        int(model.predict_plain(one[None]).argmax()) == label
        for one, label in zip(features, labels.tolist(), strict=True)
    )
    assert scores.zero_shot_correct == int(
        ((F.normalize(features, dim=-1) @ zero_shot.T).argmax(1) == labels).sum()
    )
    assert scores.routed_correct == int((features @ model.adaptive_network.T).argmax(1).sum())
    assert 0 < scores.routed_correct < 50
    answers = model.predict(features).argmax(1)
    assert evaluate(model, zero_shot, features, answers, {1}).tuned_correct == 50
    assert scores.tally.confusion(3).sum(axis=0).tolist() == answers.bincount(minlength=3).tolist()
    assert scores.tally.confusion(3).sum(axis=1).tolist() == labels.bincount(minlength=3).tolist()
    assert scores.tally.keys[0] == 50 - scores.routed_correct
    told = model.predict_knowing_domains(features, {1}).argmax(1)
    even = model.predict_without_routing(features).argmax(1)
    assert scores.correct_by_routing == {
        "oracle": int((told == labels).sum()),
        "uniform": int((even == labels).sum()),
    }
    assert (scores + scores).correct_by_routing["oracle"] == 2 * scores.correct_by_routing["oracle"]
    assert scores.tally.in_top_5 == 50, "there are only three classes"


def test_zero_shot_chooses_the_nearest_text():
    text = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=-1)
    features = torch.tensor([[5.0, 1.0], [0.1, 0.2], [3.0, 2.9]])
    assert zero_shot_correct(text, features, torch.tensor([0, 1, 0])) == {0: 2, 1: 1}
    assert zero_shot_correct(text, features, torch.tensor([1, 1, 1])) == {1: 1}


def test_scores_add_up_and_give_shares():
    total = Scores(10, 4, 6, 9) + Scores(30, 6, 14, 31 - 1)
    assert total == Scores(40, 10, 20, 39)
    assert (total.zero_shot_accuracy, total.tuned_accuracy, total.routing_share) == (0.25, 0.5, 0.975)
    assert Scores(0, 0, 0, 0).tuned_accuracy == 0.0
