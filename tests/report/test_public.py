import pytest

from hf_genkit.report import Picture, Report, Section, Table, Text
from hf_genkit.report.public import public, public_text


TOKEN = "hf_" + "a1B2" * 9


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("train.py --output_dir /home/me/runs/vae --seed 1", "train.py --output_dir vae --seed 1"),
        ("train.py --output_dir=~/runs/vae/", "train.py --output_dir=vae"),
        (r"data in C:\Users\me\data.csv, read", "data in data.csv, read"),
        ("compare.py --models '/home/jo doe/vae' '~/my gan/' b", "compare.py --models 'vae' 'my gan' b"),
        ("it's 5/6 of 'no' and \"a / b\"", None),
        (f"push.py --hub_token {TOKEN} --seed 1", "push.py --seed 1"),
        (f"HF_TOKEN={TOKEN} push.py", "push.py"),
        (f"the token {TOKEN}", "the token "),
        ("a/b tests, recipes/distill.py, 3 / 4, https://huggingface.co/papers", None),
    ],
)
def test_what_only_this_machine_knows_is_removed(text, found):
    assert public_text(text) == (text if found is None else found)


def test_every_text_of_a_report_is_made_public_but_no_picture_is_lost():
    secret = f"/root/secret/name {TOKEN}"
    blocks = [
        Text([secret]),
        Table(secret, [{secret: secret, "n": 1}], secret, secret),
        Picture(secret, "../a/b.png", secret),
    ]
    report = public(Report(secret, [secret], {secret: secret}, [Section(secret, blocks)], secret))
    assert "secret" not in str(report)
    assert TOKEN not in str(report)
    assert report.sections[0].blocks[2].path == "../a/b.png"
    assert report.sections[0].blocks[1].rows == [{"name ": "name ", "n": 1}]


def test_a_folder_whose_name_holds_a_space_is_cut_down_whole(tmp_path):
    folder = tmp_path / "jo doe" / "my vae"
    folder.mkdir(parents=True)
    assert public({"model": str(folder)}) == {"model": "my vae"}
