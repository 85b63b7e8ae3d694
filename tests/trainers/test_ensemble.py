"""How several teachers share the soft term."""

import numpy as np
import pytest
import torch

from hf_genkit.trainers.ensemble import ensemble_logits, teacher_shares


LABELS = torch.tensor([0, 3, -100, 2])


def opinions(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(4, 4, generator=generator) for _ in range(count)]


def np_softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_teachers_count_the_same_by_default_and_as_their_weights_say():
    assert torch.equal(teacher_shares(None, opinions(4), LABELS), torch.full((4, 4), 0.25))
    assert torch.equal(teacher_shares([1.0, 3.0], opinions(2), LABELS), torch.tensor([[0.25], [0.75]]).expand(2, 4))


def test_confidence_is_that_of_the_paper():
    teachers = opinions(3)
    shares = teacher_shares("confidence", teachers, LABELS)
    p = np_softmax(np.stack([t.double().numpy() for t in teachers]))
    doubt = np.stack([-np.log(p[:, i, label]) for i, label in enumerate(LABELS.tolist()) if label >= 0], axis=1)
    expected = (1 - np_softmax(doubt, axis=0)) / 2
    assert np.allclose(shares[:, LABELS >= 0], expected, atol=1e-6)
    assert torch.allclose(shares.sum(0), torch.ones(4))
    assert (shares[:, LABELS >= 0].argmax(0).numpy() == doubt.argmin(0)).all()


def test_an_item_without_a_label_goes_to_the_surer_teacher():
    sure, unsure = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[1.0, 0.9, 0.8]])
    shares = teacher_shares("confidence", [unsure, sure], torch.tensor([-100]))
    assert shares[1] > 0.7
    assert shares.sum() == pytest.approx(1)


def test_one_teacher_alone_has_the_whole_share():
    assert torch.equal(teacher_shares("confidence", opinions(1), LABELS), torch.ones(1, 4))


def test_the_ensemble_mixes_probabilities_not_logits():
    teachers = opinions(2)
    shares = teacher_shares("confidence", teachers, LABELS)
    mixture = sum(share[:, None] * logits.softmax(-1) for share, logits in zip(shares, teachers, strict=True))
    assert torch.allclose(ensemble_logits(shares, teachers).softmax(-1), mixture, atol=1e-6)
    assert torch.allclose(ensemble_logits(shares, teachers).exp(), mixture, atol=1e-6)


def test_a_class_that_one_teacher_rules_out_stays_possible():
    first, second = torch.tensor([[0.0, -torch.inf]]), torch.tensor([[0.0, 0.0]])
    mixed = ensemble_logits(torch.full((2, 1), 0.5), [first, second])
    assert torch.allclose(mixed.exp(), torch.tensor([[0.75, 0.25]]))
