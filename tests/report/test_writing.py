import json

import pytest

from hf_genkit.report import Chart, Picture, Report, Section, Series, Table, read_report, write_report

from .examples import rich_report, save_pictures


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def one(*blocks) -> Report:
    return Report("T", [], {}, [Section("S", list(blocks))])


@pytest.fixture
def folder(tmp_path):
    save_pictures(tmp_path / "run")
    return tmp_path / "run"


def test_a_report_is_read_as_it_was_written(folder):
    report = rich_report()
    assert write_report(report, folder) == folder / "report.html"
    read = read_report(folder)
    assert str(read) == str(report).replace("'KID': nan", "'KID': 'nan'")
    assert read.sections[0].blocks[2] == report.sections[0].blocks[2]
    json.loads((folder / "report.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_the_same_report_gives_the_same_bytes(folder):
    write_report(rich_report(), folder)
    before = files(folder)
    write_report(read_report(folder), folder, overwrite=True)
    assert files(folder) == before
    write_report(rich_report(), folder, overwrite=True)
    assert files(folder) == before
    assert set(before) == {
        "samples.png", "strip.png", "grid.png", "curves.png", "report.html", "report.json", "report.md",
        "report-loss.svg", "report-quality-against-time.svg",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["report.html", "report.json", "report.md", "report-loss.svg"])
def test_what_exists_is_not_replaced(folder, name):
    (folder / name).write_text("mine")
    before = files(folder)
    with pytest.raises(ValueError, match=f"{name}' exists: choose another name, or set overwrite to replace it"):
        write_report(rich_report(), folder)
    assert files(folder) == before
    write_report(rich_report(), folder, name="other")
    write_report(rich_report(), folder, overwrite=True)
    assert (folder / name).read_text(encoding="utf-8") != "mine"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.png", "'none.png' is missing in the report's folder"),
        ("../outside.png", "'../outside.png' lies outside the report's folder"),
        ("link.png", "'link.png' lies outside the report's folder"),
        ("text.png", "'text.png' is no PNG"),
        ("", "'' is missing"),
    ],
)
def test_a_picture_that_cannot_be_shown_is_refused_before_anything_is_written(folder, path, message):
    save_pictures(folder.parent)
    (folder.parent / "samples.png").rename(folder.parent / "outside.png")
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "text.png").write_text("no picture")
    before = files(folder)
    with pytest.raises(ValueError, match=message):
        write_report(one(Picture("A", path)), folder)
    assert files(folder) == before


def test_a_picture_by_its_full_path_is_refused_outside_the_folder(folder):
    with pytest.raises(ValueError, match="lies outside"):
        write_report(one(Picture("A", str(folder / "samples.png"))), folder.parent / "elsewhere")
    assert not (folder.parent / "elsewhere").exists()


@pytest.mark.parametrize("name", ["a/b", "..", "", "/tmp/x"])
def test_a_name_is_no_path(folder, name):
    with pytest.raises(ValueError, match="must be a file's name without a folder"):
        write_report(one(), folder, name=name)


def test_a_write_that_fails_leaves_what_was_there(folder, monkeypatch):
    write_report(rich_report(), folder)
    before = files(folder)
    report = one(Chart("Loss", "s", "y", [Series("a", [(1, 1)])]), Table("\ud800", [{"a": 1}]))
    with pytest.raises(UnicodeEncodeError):
        write_report(report, folder, overwrite=True)
    assert files(folder) == before


def test_a_missing_folder_is_made(tmp_path):
    assert write_report(one(), tmp_path / "a" / "b").is_file()


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"title": "x", "sections": [{"title": "a", "blocks": [{"block": "video"}]}]}']
)
def test_what_is_no_report_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match="There is no report in"):
        read_report(tmp_path)
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(ValueError, match=r"report\.json' is no report that hf_genkit wrote"):
        read_report(tmp_path)


def test_no_file_holds_what_only_this_machine_knows(folder):
    token, command = "hf_" + "a1B2" * 9, "train.py --output_dir /home/secret/vae --hub_token hf_" + "a1B2" * 9
    chart = Chart(f"Loss of {token}", "s", "y", [Series("/home/secret/vae", [(1, 1)])], command=command)
    write_report(Report("T", [command], {"Data": "/home/secret/data.csv"}, [Section("S", [chart])], command), folder)
    texts = [text.decode() for name, text in files(folder).items() if not name.endswith(".png")]
    assert len(texts) == 4
    assert not any("secret" in text or token in text for text in texts)
