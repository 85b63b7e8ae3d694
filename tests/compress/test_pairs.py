import json

import pytest
import torch
from transformers import AutoModelForImageClassification, AutoModelForSequenceClassification, BertConfig, BertTokenizer

from hf_genkit import DistillationConfig, FineTuningDataArguments, TeacherStudentArguments
from hf_genkit.arguments import PeerArguments, SelfTaughtArguments
from hf_genkit.compress import ModelPair
from hf_genkit.data import image_processor_for


VIT = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


DIGITS = FineTuningDataArguments(max_train_samples=100)


def make_pair(data=DIGITS, **sources):
    return ModelPair(TeacherStudentArguments(**sources), data, DistillationConfig("unused", use_cpu=True))


def test_configs_are_filled_in_by_the_data():
    pair = make_pair(
        teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_config={**VIT, "patch_size": 2}
    )
    for model in (pair.teachers[0], pair.new_students()[0]):
        assert (model.config.num_channels, model.config.image_size, model.config.num_labels) == (1, 8, 10)
        assert model.config.id2label[3] == "3"
    assert len(pair.processor.image_mean) == 1


def test_channels_of_a_config_decide_over_the_datas():
    pair = make_pair(teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1,
                     student_config={**VIT, "patch_size": 2, "num_channels": 3})  # fmt: skip
    assert pair.new_students()[0].config.num_channels == len(pair.processor.image_mean) == 3


def test_same_seed_gives_the_same_student():
    pair = make_pair(
        teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_config={**VIT, "patch_size": 2}
    )
    torch.manual_seed(3)
    first = pair.new_students()[0].state_dict()
    torch.manual_seed(3)
    assert all(torch.equal(value, first[name]) for name, value in pair.new_students()[0].state_dict().items())


def test_student_of_the_teachers_layers_trains():
    pair = make_pair(teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_layers=[1])
    pair.teachers[0].requires_grad_(False)
    student = pair.new_students()[0]
    assert student.config.num_hidden_layers == 1
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert pair.processor is pair.teacher_processor


def test_pretrained_student_gets_a_new_head(tmp_path):
    from transformers import ViTConfig

    saved = AutoModelForImageClassification.from_config(
        ViTConfig(
            **{k: v for k, v in VIT.items() if k != "model_type"},
            image_size=8,
            patch_size=4,
            num_channels=1,
            num_labels=4,
        )
    )
    saved.save_pretrained(tmp_path)
    image_processor_for(1, 8).save_pretrained(tmp_path)
    pair = make_pair(
        teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_model_name_or_path=str(tmp_path)
    )
    student = pair.new_students()[0]
    assert student.config.num_labels == 10
    assert torch.equal(student.vit.embeddings.cls_token, saved.vit.embeddings.cls_token)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "vitt"}, "did you mean 'vit'"),
        ({**VIT, "hiden_size": 8}, "did you mean 'hidden_size'"),
        ({"hidden_size": 8}, "`model_type` is 'None'"),
    ],
)
def test_misspelt_configs_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        make_pair(teacher_config=config, teacher_epochs=1, student_config=VIT)


def test_text_pair_shares_the_teachers_tokenizer(tmp_path):
    import datasets

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "teacher")
    config = BertConfig(vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "teacher")
    train = datasets.Dataset.from_dict({"text": ["good", "bad"] * 20, "label": [1, 0] * 20})
    train.save_to_disk(str(tmp_path / "data"))
    data = FineTuningDataArguments(str(tmp_path / "data"))
    student = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    pair = make_pair(data, teacher_model_name_or_path=str(tmp_path / "teacher"), student_config=student)
    assert pair.new_students()[0].config.vocab_size == 7
    assert json.dumps(pair.processor.get_vocab(), sort_keys=True) == json.dumps(
        pair.teacher_processor.get_vocab(), sort_keys=True
    )
    with pytest.raises(ValueError, match="needs a tokenizer, which comes with a model given by name"):
        make_pair(data, teacher_config=student, teacher_epochs=1, student_config=student)


def test_peers_come_from_names_and_configs_and_share_a_processor(tmp_path):
    saved = make_pair(teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_layers=[0]).new_students()[0]
    saved.save_pretrained(tmp_path)
    image_processor_for(1, 8).save_pretrained(tmp_path)
    args = PeerArguments(
        method="online",
        student_model_name_or_path=[str(tmp_path)],
        student_config=[json.dumps({**VIT, "patch_size": 2}), {**VIT, "patch_size": 8}],
    )
    pair = ModelPair(args, DIGITS, DistillationConfig("unused", use_cpu=True))
    assert [student.config.patch_size for student in pair.new_students()] == [4, 2, 8]
    assert (pair.teachers, pair.teacher_processor, len(pair.processors)) == ([], None, 1)
    with pytest.raises(ValueError, match="two or more altogether; given: 1"):
        PeerArguments(student_config=[VIT])


def test_early_exits_are_added_behind_the_layers_that_are_named():
    args = SelfTaughtArguments(student_config={**VIT, "patch_size": 4}, exits=[0])
    (student,) = ModelPair(args, DIGITS, DistillationConfig("unused", use_cpu=True)).new_students()
    assert student.config.exits == [0]
    assert student.config.num_labels == 10


def test_classes_get_three_seeds_and_what_is_given_goes_first():
    sources = {"teacher_config": {**VIT, "patch_size": 4}, "teacher_epochs": 1, "student_layers": [0]}
    assert make_pair(**sources).seeds == [0, 1, 2]
    assert make_pair(**sources, seeds=[7]).seeds == [7]


def test_teachers_that_see_pixels_in_other_ways_are_refused(tmp_path):
    """All teachers get the first one's pixels."""
    network = make_pair(teacher_config={**VIT, "patch_size": 4}, teacher_epochs=1, student_layers=[0]).teachers[0]
    for name, mean in (("one", 0.5), ("same", 0.5), ("other", 0.4)):
        network.save_pretrained(tmp_path / name)
        processor = image_processor_for(1, 8)
        processor.image_mean = [mean]
        processor.save_pretrained(tmp_path / name)
    one, same, other = (str(tmp_path / name) for name in ("one", "same", "other"))
    assert len(make_pair(teacher_model_name_or_path=[one, same], student_layers=[0]).teachers) == 2
    with pytest.raises(ValueError, match="reads its inputs in another way than the first one"):
        make_pair(teacher_model_name_or_path=[one, other], student_layers=[0])
