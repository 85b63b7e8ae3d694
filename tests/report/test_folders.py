import json

import pytest

from hf_genkit.hub import write_model_card
from hf_genkit.report import Picture, Table, report_of_folder, write_report
from hf_genkit.report.folders import tables_of

from .examples import rich_report, save_picture, save_pictures
from .test_card_reading import facts


def write(folder, results, name="results.json"):
    (folder / name).write_text(json.dumps(results))


def blocks(report, kind):
    return [block for section in report.sections for block in section.blocks if isinstance(block, kind)]


def test_a_run_with_a_card_tells_its_verdict_first(tmp_path):
    models = {"student": {"name": "student", "values": [0.7, 0.8, 0.9], "cost": {"parameters": 12}, "peers": []}}
    write(
        tmp_path, {"models": models, "seeds": {"student": [0, 1]}, "difference": "student is better.", "seconds": 2.0}
    )
    write_model_card(tmp_path, facts())
    save_picture(tmp_path / "curves.png")
    save_picture(tmp_path / "few_steps.png")
    report = report_of_folder(tmp_path)
    assert report.title == "tiny"
    assert report.summary[:2] == [
        "Student is better.",
        "Measured on digits, split test (500 samples): Accuracy 0.792.",
    ]
    assert report.facts == {
        "Hardware": "2 CPU cores, 95 seconds", "Versions": "hf-genkit 0.1.0, torch 2.13.0", "hf_genkit": "0.1.0",
    }  # fmt: skip
    assert [picture.path for picture in blocks(report, Picture)] == ["curves.png", "few_steps.png"]
    assert "Hardware" not in str(report.sections)
    tables = {table.title: table.rows for table in blocks(report, Table)}
    assert tables["Models"] == [{"Name": "student", "values": "0.8 (0.7 to 0.9)", "cost.parameters": 12, "peers": ""}]
    assert tables["Seeds"] == [{"Name": "student", "Value": "0, 1"}]
    page = write_report(report, tmp_path).read_text(encoding="utf-8")
    assert "Student is better." in page


def test_a_run_without_a_card_shows_its_numbers_and_pictures(tmp_path):
    write(
        tmp_path,
        {"sgd 0.1": {"test_accuracy": [0.198], "bytes": 0}, "adam": {"test_accuracy": [0.9, 0.8], "bytes": 9}},
    )
    save_picture(tmp_path / "curves.png")
    report = report_of_folder(tmp_path)
    assert report.title == tmp_path.name
    assert (report.summary, report.facts, report.command) == ([], {}, None)
    assert [picture.title for picture in blocks(report, Picture)] == ["Curves"]
    (table,) = blocks(report, Table)
    assert [row["test_accuracy"] for row in table.rows] == ["0.198", "0.85 (0.8 to 0.9)"]


def test_a_search_is_its_trials(tmp_path):
    write(
        tmp_path,
        [{"number": 0, "values": {"lr": 0.1}, "error": None}, {"number": 1, "values": {"lr": 0.2}}],
        "trials.json",
    )
    (table,) = blocks(report_of_folder(tmp_path), Table)
    assert table.rows == [
        {"Name": "0", "number": 0, "values.lr": 0.1, "error": None},
        {"Name": "1", "number": 1, "values.lr": 0.2},
    ]


def test_values_of_each_level_get_a_table():
    found = {"metrics": {"test_loss": 0.5, "nan": None}, "forms": [{"name": "int8", "size": 3}], "steps": 9}
    assert [(table.title, table.rows) for table in tables_of(found)] == [
        ("The run", [{"Name": "steps", "Value": 9}]),
        ("Metrics", [{"Name": "test_loss", "Value": 0.5}, {"Name": "nan", "Value": None}]),
        ("Forms", [{"Name": "0", "name": "int8", "size": 3}]),
    ]


def test_a_report_that_was_written_is_that_report(tmp_path):
    save_pictures(tmp_path)
    write(tmp_path, {"steps": 9})
    write_report(rich_report(), tmp_path)
    assert report_of_folder(tmp_path).sections[1] == rich_report().sections[1]


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no results: none of report"):
        report_of_folder(tmp_path)
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results.json' is no JSON"):
        report_of_folder(tmp_path)
