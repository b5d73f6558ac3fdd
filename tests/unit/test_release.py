from __future__ import annotations

import io
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from config_templates import places
from infra import release
from infra.release import facts_from, pack, rendered
from infra.stack import Stack
from tests.unit.recording import REGION, certificate
from tests.unit.test_settings import load, modality

STACK = Stack(name="test", region=REGION, keep=False)
FILES = st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True), st.text(max_size=200), max_size=8)


@given(FILES)
def test_an_archive_holds_what_it_was_given_and_nothing_of_the_moment(files: dict[str, str]) -> None:
    archive = pack(files)
    assert archive == pack(dict(reversed(files.items())))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        entries = {entry.name: entry for entry in tar}
        assert sorted(entries) == sorted(files)
        for name, text in files.items():
            content = tar.extractfile(name)
            assert content is not None
            assert content.read().decode() == text
            assert (entries[name].mtime, entries[name].uid, entries[name].uname, entries[name].mode) == (0, 0, "", 0o644)


def test_a_preview_shows_a_new_modality_though_its_certificate_is_not_made_yet() -> None:
    settings = load(modalities=[modality(), modality(aet="MR7", may=["store", "find"])])
    pem = certificate("CT1").certificate
    files = rendered(settings, STACK, {"database": "db.example", "modalities": {"CT1": {"1": pem}}})
    assert '"MR7"' in files["nginx/nginx.conf"]
    assert '"MR7"' in files["probe/modalities.json"]
    assert "db.example" in files["orthanc/orthanc.json"]
    assert facts_from(settings, {}).modality_certificates["CT1"][1] != facts_from(settings, {}).modality_certificates["MR7"][1]


def test_containers_get_what_the_system_leaves_them() -> None:
    service = release.service(load(), STACK, facts_from(load(), {}))
    assert service.orthanc.memory_mb + service.nginx.memory_mb + release.SYSTEM_MB == 2048
    assert service.orthanc.memory_mb >= 1024
    assert service.nginx.memory_mb >= 320  # what tests/rendering holds nginx.conf to


def test_run_directories_have_one_way_to_be_written() -> None:
    assert {path.split("/")[0] for path in rendered(load(), STACK, {}) if "/" in path} <= set(places.MOUNTS)
