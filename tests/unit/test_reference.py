"""docs/settings.md: the reference says what the class says, of every setting."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from pydantic import AfterValidator

from config_templates.model import User
from infra.settings import FIELDS, Modality, Settings
from operations.reference import _WRITTEN, PAGE, _rules, page
from tests.unit.test_settings import load

TEXT = page()


def test_the_page_is_what_the_class_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == TEXT, "docs/settings.md is out of date: make docs"


def test_every_setting_has_its_paragraph_in_the_order_of_the_class() -> None:
    assert re.findall(r"(?m)^### `(\w+)`$", TEXT) == list(FIELDS)


@pytest.mark.parametrize("key", FIELDS)
def test_a_paragraph_has_description_type_default_and_how_to_set_it(key: str) -> None:
    paragraph = TEXT.partition(f"### `{key}`\n")[2].partition("\n### ")[0]
    info = Settings.model_fields[FIELDS[key]]
    assert str(info.description).lower() in paragraph.lower()
    assert re.search(r"(?m)^- default: (none|`.+`)", paragraph)
    assert f"orthanc:{key}" in paragraph
    for rule in _rules(info.metadata):
        assert f"; {rule}" in paragraph


def test_bounds_and_choices_are_those_that_are_enforced() -> None:
    assert "- whole number; 16 to 1000\n" in TEXT
    assert "t4g.small, t4g.medium" in TEXT
    assert "| `port` | its DICOM TLS port, with `address` | whole number; 1 to 65535 | none |" in TEXT


def test_what_is_written_in_the_stacks_file_is_taken() -> None:
    for written in _WRITTEN.values():
        ((key, value),) = yaml.safe_load(written).items()
        load(**{key.removeprefix("orthanc:"): value})


def test_the_fields_of_objects_have_the_names_under_which_the_stacks_file_takes_them() -> None:
    """Python's own names would be taken too, and nothing else in the file is written so."""
    for key, model in (("modalities", Modality), ("users", User)):
        paragraph = TEXT.partition(f"### `{key}`\n")[2].partition("\n### ")[0]
        assert re.findall(r"(?m)^\| `([^`]+)` \|", paragraph) == [info.alias or name for name, info in model.model_fields.items()]
    assert "| `silentMinutes` | " in TEXT
    assert not re.findall(r"(?m)^\| `\w*_\w*` \|", TEXT)


def test_the_page_and_aws_md_show_a_site_gateway_that_may_not_fall_silent() -> None:
    modalities = [yaml.safe_load(_WRITTEN["modalities"])["orthanc:modalities"]]
    (written,) = re.findall(r"(?s)```yaml\n(orthanc:modalities:.*?)```", (PAGE.parent / "aws.md").read_text(encoding="utf-8"))
    modalities.append(yaml.safe_load(written)["orthanc:modalities"])
    for among in modalities:
        (gate,) = (one for one in among if "silentMinutes" in one)
        assert load(modalities=[gate]).modalities[0].silent_minutes == 15


def test_each_line_that_sets_something_sets_what_is_taken() -> None:
    """Placeholders in capitals and files of the site's own are left out."""
    for line in re.findall(r"(?m)^- `(pulumi config set .+)`$", TEXT):
        words = shlex.split(line)
        key, value = words[-2].removeprefix("orthanc:"), words[-1]
        if "[0]" not in key and "$(" not in line and "<" not in line and not re.search(r"[A-Z]{3}", value.replace("ORTHANC", "")):
            load(**{key: value})


def test_a_rule_that_can_not_be_told_stops_the_generator() -> None:
    with pytest.raises(TypeError, match="give it a docstring"):
        list(_rules([AfterValidator(lambda value: value)]))
