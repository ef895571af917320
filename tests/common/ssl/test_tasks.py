"""The paper's proxy tasks, compared with loops over Python numbers, and a custom task."""

import math

import pytest
import torch
import torch.nn.functional as F

from common import weights
from common.errors import ArgumentError
from common.ssl.losses import SSLLoss
from common.ssl.networks import SSLHead
from common.ssl.tasks import TokenTask, paper_tasks
from common.ssl.views import TwoViews
from tests.oracles.contrastive import nt_xent


@pytest.fixture
def prediction():
    generator = torch.Generator().manual_seed(3)
    return {
        "reconstruction": torch.randn(4, 2, 3, 3, 3, generator=generator).requires_grad_(),
        "rotation": torch.randn(4, 4, generator=generator).requires_grad_(),
        "contrastive": torch.randn(4, 6, generator=generator).requires_grad_(),
    }


TARGET = {
    "reconstruction": torch.randn(4, 2, 3, 3, 3, generator=torch.Generator().manual_seed(4)),
    "rotation": torch.tensor([0, 3, 1, 1]),
}


def expected_terms(prediction):
    predicted, expected = prediction["reconstruction"].flatten().tolist(), TARGET["reconstruction"].flatten().tolist()
    rotation = [
        math.log(sum(math.exp(logit) for logit in logits)) - logits[turn]
        for logits, turn in zip(prediction["rotation"].tolist(), TARGET["rotation"].tolist(), strict=True)
    ]
    return {
        "reconstruction": sum(abs(a - b) for a, b in zip(predicted, expected, strict=True)) / len(predicted),
        "rotation": sum(rotation) / len(rotation),
        "contrastive": nt_xent(prediction["contrastive"].tolist(), 0.5),
    }


@pytest.mark.parametrize(
    ("weights", "by_task"),
    [(None, [1, 1, 1]), ([2.0, 0.0, 0.5], [2, 0, 0.5]), ({"rotation": 0, "contrastive": 3}, [1, 0, 3])],
)
def test_weights_count_in_the_total_alone(prediction, weights, by_task):
    expected = expected_terms(prediction)
    terms = SSLLoss(weights=weights)(prediction, TARGET)
    total = sum(weight * term for weight, term in zip(by_task, expected.values(), strict=True))
    assert {name: term.item() for name, term in terms.items()} == pytest.approx({"total": total} | expected, rel=1e-6)
    assert tuple(terms) == ("total", "reconstruction", "rotation", "contrastive")
    terms["total"].backward()
    assert (prediction["rotation"].grad is None) == (by_task[1] == 0)


@pytest.mark.parametrize("weights", [[1, -1, 1], [1, 1, float("nan")], [0, 0, 0], [1, 1], {"jigsaw": 1}])
def test_weights_are_at_least_zero_and_fit_the_tasks(weights):
    with pytest.raises(ArgumentError):
        SSLLoss(weights=weights)


CROPS = {"image": torch.randn(2, 2, 64, 64, 32, generator=torch.Generator().manual_seed(5))}


class Mirrored(TokenTask):
    """A custom task: find the mirrored crops."""

    head, outputs, token = "mirror_head", 2, 0

    def change(self, views):
        self.drawn = torch.randint(2, (len(views.clean),), generator=views.generator)
        views.clean = torch.where(self.drawn.view(-1, 1, 1, 1, 1) == 1, views.clean.flip(2), views.clean)

    def target(self, views):
        return self.drawn

    def loss(self, prediction, target):
        return F.cross_entropy(prediction.float(), target)


@pytest.mark.parametrize("others", [[], paper_tasks()], ids=["alone", "beside the paper's"])
def test_a_task_that_only_its_module_knows_changes_the_views_and_its_encoder_embeds(others, tmp_path):
    tasks = [*others, Mirrored()]
    network, (inputs, target) = SSLHead(2, "micro", tasks=tasks), TwoViews(seed=3, tasks=tasks)(CROPS)
    plain = TwoViews(seed=3)(CROPS)[1]["clean"]
    drawn = target["mirrored"] == 1
    assert drawn.any()
    assert not drawn.all()
    assert torch.equal(target["clean"][drawn], plain[drawn].flip(2))
    assert torch.equal(target["clean"][~drawn], plain[~drawn])
    SSLLoss(tasks)(network(inputs), target)["total"].backward()
    file, names = tmp_path / "model.pt", [task.name for task in tasks]
    metadata = {"modalities": ["T1", "T2"], "tasks": names, "merging": "monai_1_5"}
    weights.write({"network": network.state_dict(), "metadata": metadata}, file)
    embeds = SSLHead(2, "micro", tasks=names)
    weights.restore(embeds, file, ["T1", "T2"])
    assert [task.name for task in embeds.tasks] == [task.name for task in others]
    image = CROPS["image"].float()
    assert all(map(torch.equal, embeds.eval().swinViT(image), network.eval().swinViT(image)))
