"""README.md, CONTRIBUTING.md, docs/: links lead somewhere, what is named exists, each command is run by a test or called unproved."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path, PurePosixPath

import pytest

from infra.monitoring import alarms
from infra.settings import FIELDS
from infra.stack import Stack
from rehearsal import service, steps
from tests.repository.test_makefile import HANDED_ON
from tests.unit.recording import REGION, ROOT
from tests.unit.test_settings import load
from tests.unit.test_stack import deployed

# The changelog tells of what was: its links are followed, its names and commands may be gone.
PAGES = ("README.md", "CONTRIBUTING.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"(?ms)^ *```(\w*)\n(.*?)^ *```$")
# What pages name in words of their own: a placeholder of the reader's.
PLACEHOLDER = re.compile(r"\b(STACK|NAME)\b")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def tracked() -> frozenset[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return frozenset(name for name in listed.stdout.splitlines() if (ROOT / name).exists())


@cache
def code() -> str:
    """Everything tracked but pages and this file, which makes names up."""
    names = [name for name in sorted(tracked()) if not name.endswith(".md") and ROOT / name != Path(__file__)]
    return "\n".join((ROOT / name).read_text(encoding="utf-8", errors="replace") for name in names)


@cache
def words() -> frozenset[str]:
    return frozenset(re.findall(r"[A-Za-z_]\w*", code()))


# -- links -----------------------------------------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """As GitHub makes them from headings."""
    titles = re.findall(r"(?m)^#+ (.*)$", FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: str, text: str) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        if path and not place.exists():
            yield f"{target}: no such file"
        elif anchor and anchor not in anchors(text if not path else place.read_text(encoding="utf-8")):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    assert list(broken_links(page, text_of(page))) == []


def test_a_link_to_nowhere_is_found() -> None:
    page = "See [a](aws.md), [b](aws.md#out), [c](gone.md), [d](aws.md#nowhere), [e](#here), [f](#there).\n\n## Here\n"
    assert list(broken_links("docs/new.md", page)) == [
        "gone.md: no such file",
        "aws.md#nowhere: no such heading",
        "#there: no such heading",
    ]


# -- names -----------------------------------------------------------------------------------------------------------------


def exists(path: str) -> bool:
    pattern = PLACEHOLDER.sub("*", path.rstrip("/"))
    folders = {str(parent) for name in tracked() for parent in PurePosixPath(name).parents}
    return any(fnmatch(name, pattern) for name in tracked() | folders)


@cache
def top() -> frozenset[str]:
    return frozenset(PurePosixPath(name).parts[0] for name in tracked() if "/" in name)


@cache
def names_of_files() -> frozenset[str]:
    return frozenset(PurePosixPath(name).name for name in tracked())


@cache
def makefile() -> tuple[frozenset[str], frozenset[str]]:
    text = text_of("Makefile")
    return frozenset(re.findall(r"(?m)^\.PHONY: (.*)$", text)), frozenset(re.findall(r"\$\(([A-Z_]+)\)", text))


@cache
def defined_tests() -> frozenset[str]:
    return frozenset(re.findall(r"(?m)^def (test_\w+)", code()))


@cache
def kebabs() -> frozenset[str]:
    stack = Stack(name="test", region=REGION, keep=False)
    made = {made.name for scenario in ("dev", "prod") for made in deployed(scenario).made}
    return frozenset({alarm.name for alarm in alarms(load(), stack)} | made)


@cache
def of_parameters_and_logs() -> frozenset[str]:
    """What stands behind /orthanc/STACK/."""
    stack = deployed("prod")
    named = [p["name"] for kind in ("ssm/parameter", "cloudwatch/logGroup") for p in stack.of(kind).values()]
    return frozenset(name.removeprefix("/orthanc/test/") for name in named if name.startswith("/orthanc/test/"))


def unknown_path(span: str) -> str | None:
    path = span.partition("::")[0]
    if re.fullmatch(r"\.?[\w./-]+", path) and "/" in path and path.split("/")[0] in top():
        return None if exists(path) else "no such path"
    if re.fullmatch(r"[\w.-]+\.(py|md|j2|toml)|Pulumi\.\w+\.yaml", path):
        known = any(fnmatch(name, PLACEHOLDER.sub("*", path)) for name in names_of_files())
        return None if known else "no such file"
    return None


def unknown_make(command: str) -> str | None:
    if not (found := re.match(r"make(( +[a-z-]+)*)(( +[A-Z_]+=\S+)*)", command)):
        return None
    targets, variables = makefile()
    wrong = set(found[1].split()) - targets | set(re.findall(r"([A-Z_]+)=", found[3])) - variables - {"PYTHON"}
    return f"the Makefile has no {', '.join(sorted(wrong))}" if wrong else None


def unknown_word(span: str) -> str | None:
    if found := re.fullmatch(r"([a-z]+[A-Z]\w*)(: .*)?", span):
        return None if found[1] in {*FIELDS, *words()} else "no such setting"
    if re.fullmatch(r"[A-Z][a-z]+([A-Z]\w*)*|[a-z]+(_[a-z]+)+|[A-Z]+(_[A-Z]+)+", span) and span not in ELSEWHERE:
        return None if span in words() else "no such name in the code"
    if re.fullmatch(r"[a-z]+(-[a-z0-9]+)+", span):
        return None if span in kebabs() or span in code() else "no alarm, resource or name like this"
    return None


def is_module(name: str) -> bool:
    return name in {"pytest", "venv"} or exists(name.replace(".", "/")) or exists(f"{name.replace('.', '/')}.py")


# What a command may name: (how it is found, whether it exists, what it would be).
IN_COMMANDS: tuple[tuple[str, Callable[[str], bool], str], ...] = (
    (r"(?<![\w/])orthanc:([A-Za-z]\w+)", lambda key: key in {*FIELDS, "NAME"}, "setting"),
    (r"/orthanc/[A-Z]+/(\w+)", lambda what: what in of_parameters_and_logs(), "parameter or log group"),
    (r"pulumi stack output (\w+)", lambda what: what in deployed("dev").outputs, "output"),
    (r"^(?:sudo )?orthanc-host ([a-z-]+)", lambda what: f'add_parser("{what}"' in text_of("bootstrap/orthanc_host/commands.py"), "command"),
    (r"python -m ([a-z_.]+)", is_module, "module"),
    (r"\b(test_\w+)\b(?!\.py)", lambda test: test in defined_tests(), "test"),
    (r"(?<![\w/.])tests/[\w./]+(?!…)", exists, "path"),
)


def unknown_in_command(command: str) -> Iterator[str]:
    for pattern, known, kind in IN_COMMANDS:
        yield from (f"{name}: no such {kind}" for name in re.findall(pattern, command) if not known(name))


# Names in backticks that belong to others, and why.
ELSEWHERE: Mapping[str, str] = {
    "ViewOnlyAccess": "a policy of AWS's",
    "ClientTLSCertFile": "a setting of 3D Slicer's",
    "ClientTLSPrivateKey": "a setting of 3D Slicer's",
    "orthanc_database": "a volume: the project's name and the volume's, put together by compose",
}


def test_what_belongs_to_others_is_still_named() -> None:
    assert set(ELSEWHERE) - {span for page in PAGES for span in spans_of(text_of(page))} == set()
    assert set(ELSEWHERE) & words() == set()


def unknown_steps(text: str) -> Iterator[str]:
    """`enrol` and `renew` in `tests/host/test_service.py`."""
    known = {"host/test_service": {s.__name__ for s in service.STEPS}, "engine/test_life": {s.__name__ for s in steps.STEPS}}
    for spans, tier in re.findall(r"((?:`\w+`(?:,| and|,? or)?\s+)+)in\s+`tests/(host/test_service|engine/test_life)\.py`", text):
        yield from (
            f"{step}: no step of tests/{tier}.py"
            for step in re.findall(r"\w+", re.sub(r"\b(and|or)\b", "", spans))
            if step not in known[tier]
        )


def spans_of(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def unknown_names(text: str) -> Iterator[str]:
    for span in spans_of(text):
        for check in (unknown_path, unknown_make, unknown_word):
            if why := check(span):
                yield f"{span}: {why}"
        yield from unknown_in_command(span)
    for command in commands(text):
        if why := unknown_make(command):
            yield f"{command}: {why}"
        yield from unknown_in_command(command)
    yield from unknown_steps(text)


@pytest.mark.parametrize("page", PAGES)
def test_everything_that_is_named_exists(page: str) -> None:
    assert list(unknown_names(text_of(page))) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("`infra/gone.py`", "no such path"),
        ("`test_gone.py`", "no such file"),
        ("`Pulumi.stage.yaml`", "no such file"),
        ("`make gone`", "the Makefile has no gone"),
        ("`make up STAKC=dev`", "the Makefile has no STAKC"),
        ("`pulumi config set orthanc:noSuch 1`", "no such setting"),
        ("`noSuchSetting: 2`", "no such setting"),
        ("`NoSuchMetric`", "no such name"),
        ("`no_such_step`", "no such name"),
        ("`no-such-alarm`", "no alarm"),
        ("`/orthanc/STACK/gone`", "no such parameter"),
        ("`pulumi stack output gone`", "no such output"),
        ("`sudo orthanc-host gone`", "no such command"),
        ("`python -m gone up`", "no such module"),
        ("`enrol` and `gone` in `tests/host/test_service.py`", "gone: no step"),
        ("```sh\n.venv/bin/python -m pytest tests/unit/test_settings.py::test_gone\n```\n", "no such test"),
        ("```sh\nmake gone\n```\n", "the Makefile has no gone"),
    ],
)
def test_a_name_that_does_not_exist_is_found(text: str, why: str) -> None:
    found = list(unknown_names(text))
    assert [wrong for wrong in found if why in wrong], found


# -- commands --------------------------------------------------------------------------------------------------------------


# What a span of a sentence begins with when it is a command. What every system has (kill, rm, cp) needs no proof.
PROGRAM = re.compile(
    r"(make|pulumi|aws|docker|openssl|git|python3?|\.venv/bin/\w+|\./gateway|orthanc-host|curl|psql|pg_dump|pg_restore|vacuumdb"
    r"|apt-get|dnf|actionlint|(echo|store|find|move|gdcm)scu|storescp) \S"
)


def commands(text: str) -> list[str]:
    """What a page says to run, in its blocks and in its sentences."""
    return [*in_blocks(text), *in_sentences(text)]


def in_sentences(text: str) -> list[str]:
    """Spans that name a program and something that it shall do."""
    bare = (re.sub(r"^(sudo |[A-Z_]+=\S+ )+", "", part) for span in spans_of(text) for part in span.split(" && "))
    return [command for command in bare if PROGRAM.match(command)]


def in_blocks(text: str) -> list[str]:
    """The commands of a page's blocks, each in one line, without comments and what the shell does around them."""
    found = []
    for language, body in FENCE.findall(text):
        if language not in {"", "sh"}:
            continue
        for line in _logical_lines(body):
            bare = re.sub(r"(^|\s+)#.*", "", line).strip()
            for command in bare.split(" && "):
                inner = re.sub(r'^(for \w+ in |[A-Za-z]\w*=|)\$\(|^\(umask 077; |^\w+="[^"]*"$|^(done|cd .*)$', "", command).strip()
                if inner:
                    found.append(inner.removeprefix("sudo ").removesuffix(" &"))
    return found


def _logical_lines(body: str) -> Iterator[str]:
    """Lines, joined where they end with a backslash or inside quotes."""
    whole = ""
    for line in body.splitlines():
        whole = f"{whole} {line.strip()}" if whole else line.strip()
        if whole.endswith("\\"):
            whole = whole.removesuffix("\\").strip()
        elif re.sub(r"\s#.*", "", whole).count("'") % 2 == 0:
            yield whole
            whole = ""
    assert not whole, f"a quote is not closed: {whole}"


RUN, FORM, UNPROVED = "run by", "form checked by", "unproved:"
MADE = "handed on by make as tests/repository/test_makefile.py tries, to what is run by"
ALIKE = "in other words, to the same effect, run by"
AWS_FORM = (FORM, "tests/unit/test_alarms.py::test_aws_knows_every_command_and_option_of_its_cli_that_a_page_uses")
# The commands that tests/engine/test_snapshots.py takes from their pages.
SNAPSHOTS = (
    r"aws (rds (restore-db-instance-to-point-in-time|delete-db-instance|copy-db-snapshot|(wait|create-db-snapshot) .*(orthanc-then|moving))"
    r"|kms create-key .*on the move).*"
)
# Each command of a page: a pattern for it, and the test that runs it, or knows its form, or why none does. Each command has one row.
PROOFS: Mapping[str, tuple[str, str]] = {
    r"make": (RUN, "tests/repository/test_repository.py::test_make_alone_lists_every_target_that_people_use"),
    r"make demo( DICOM_PORT=\d+ WEB_PORT=\d+)?": (
        MADE,
        "tests/service/test_interruptions.py::test_what_an_earlier_run_may_have_left_is_healed",
    ),
    r"make demo-(enrol|strike)( AET=.*)?|make demo-logs": (MADE, "tests/service/test_demo.py::test_enrolling_and_striking_by_command"),
    r"make demo-(backup|restore)( FILE=\S*)?": (
        MADE,
        "tests/service/test_recovery.py::test_every_image_comes_back_as_it_was_into_a_service_with_new_keys",
    ),
    r"make demo-down": (MADE, "tests/service/test_interruptions.py::test_what_an_earlier_run_may_have_left_is_healed"),
    r"make demo-clean": (
        UNPROVED,
        "it also forgets images and packages, which take long to make; all else that it removes, service tests do",
    ),
    r"make (import( FROM=.*)?|export( TO=.*)?)": (
        MADE,
        "tests/service/test_archives.py::test_what_is_brought_in_is_carried_out_and_comes_back_the_same",
    ),
    r"make (check|test)": (RUN, ".ci/run"),
    r"make (check )?test-fast": (RUN, ".github/workflows/preview.yml"),
    r"make docs": (MADE, "tests/unit/test_reference.py::test_the_page_is_what_the_class_says"),
    r"make bench( QUICK=1)?": (MADE, "tests/service/test_bench.py::test_a_quick_bench_prints_every_row_and_leaves_nothing_behind"),
    r"make mutants( ONLY=\w+)?": (
        MADE,
        "tests/repository/test_mutation.py::test_a_mutant_is_noticed_by_the_tests_and_one_that_changes_nothing_is_not",
    ),
    r"make rehearse( ACT=service)?": (MADE, "tests/host/test_service.py"),
    r"make rehearse ACT=stack": (MADE, "tests/engine/test_life.py"),
    r"make verify": (MADE, "tests/service/test_verify.py::test_every_check_is_good_and_the_test_object_is_gone"),
    r"make verify STACK=\w+": (MADE, "tests/host/test_service.py::verify"),
    r"make up( STACK=\w+)?": (MADE, "tests/host/test_service.py::enrol"),
    r"make modality( AET=\w+ STACK=\w+)?": (
        MADE,
        "tests/operations/test_modality.py::test_the_bundle_is_written_for_its_reader_alone_and_the_key_is_not_shown",
    ),
    r"make gateway( AET=.*)?": (MADE, "tests/operations/test_gateway.py::test_what_the_operator_wishes_stands_in_the_folder"),
    r"python -m operations verify dev": (ALIKE, "tests/service/test_verify.py::test_every_check_is_good_and_the_test_object_is_gone"),
    r"\./gateway pull": (RUN, "tests/gateway/test_script.py::test_images_can_be_fetched_before_the_computer_comes_to_the_site"),
    r"\./gateway (start|stop|remove)": (
        RUN,
        "tests/service/test_gateway.py::test_while_the_line_is_down_images_wait_and_none_is_lost",
    ),
    r"\./gateway (status|save waiting\.tar|drop ID)": (
        RUN,
        "tests/service/test_gateway.py::test_what_the_server_refuses_is_told_and_waits",
    ),
    r"\./gateway logs": (RUN, "tests/gateway/test_script.py::test_status_stop_logs_and_drop_ask_what_they_say"),
    r"docker compose restart forwarder": (ALIKE, "tests/service/test_gateway.py::test_what_the_server_refuses_is_told_and_waits"),
    r"\.venv/bin/python -m pytest tests/.*": (FORM, "tests/repository/test_repository.py::test_every_test_file_is_collected"),
    r"\.venv/bin/python -m rehearsal stack": (ALIKE, "tests/engine/test_life.py"),
    r"python3 -m venv \.venv|\.venv/bin/pip install -r requirements\.txt": (ALIKE, ".github/workflows/preview.yml"),
    r"git clone <this repository> orthanc": (UNPROVED, "where it is published, this repository does not know"),
    r"git diff HEAD~1 .*": (UNPROVED, "git's own business"),
    r"git tag -a vVERSION -m VERSION HASH": (UNPROVED, "a person names a release, once"),
    r"git ((tag|tag --delete|checkout) before-upgrade|fetch origin|diff HEAD\.\.\..*|merge --no-edit RELEASE|rev-parse HEAD)": (
        RUN,
        "tests/repository/test_changelog.py::test_git_takes_a_release_as_the_page_says_and_leaves_what_a_stack_says",
    ),
    r"cp Pulumi\.prod\.yaml .*": (UNPROVED, "followed by an edit by hand"),
    r"sed '/\^encryptionsalt.*": (RUN, "tests/engine/test_rotation.py::test_a_stack_in_another_region_begins_with_the_old_ones_settings"),
    # -- pulumi
    r"pulumi stack init( .*)?": (UNPROVED, "rehearsed with a passphrase; with a key of KMS on no account yet"),
    r"pulumi login( 's3://.*')?": (UNPROVED, "rehearsed with a folder; with a bucket on no account yet"),
    r"pulumi config (set|rm) .*": (RUN, "tests/engine/test_rotation.py::test_settings_are_set_and_dropped_as_pages_say"),
    r"pulumi stack change-secrets-provider .*": (UNPROVED, "needs two keys of KMS; stacks are tested with a passphrase"),
    r"pulumi import": (UNPROVED, "what is to be imported, only the loss of a state tells"),
    r"pulumi preview( --policy-pack policy)?": (RUN, "tests/engine/test_life.py::preview"),
    r"pulumi preview --diff( --policy-pack policy)?( --stack STACK)?": (RUN, "tests/engine/test_life.py::enrol"),
    r"pulumi up( --stack NEW| --policy-pack policy)?": (RUN, "tests/engine/test_life.py::up"),
    r"pulumi destroy": (RUN, "tests/engine/test_life.py::leave"),
    r"pulumi stack --show-urns .*-authority\$'\); do": (RUN, "tests/engine/test_rotation.py::test_the_outside_authority_of_a_kept_stack"),
    r"pulumi stack output authority --stack STACK > authority\.pem": (
        RUN,
        "tests/engine/test_rotation.py::test_the_outside_authority_of_a_kept_stack",
    ),
    r"pulumi state unprotect .*": (RUN, "tests/engine/test_rotation.py::test_the_inside_authorities_of_a_kept_stack"),
    r"pulumi stack --show-urns .*secrets-password-NAME\$'\)|pulumi up .*--replace .*|pulumi stack output passwords .*": (
        RUN,
        "tests/engine/test_rotation.py::test_a_web_password",
    ),
    # -- AWS: no account is at hand; options and operations are those that Amazon's own client knows
    rf"(?!{SNAPSHOTS})aws (autoscaling|cloudwatch|ec2|kms|logs|rds|s3api|secretsmanager|ssm|sts) .*": AWS_FORM,
    SNAPSHOTS: (RUN, "tests/engine/test_snapshots.py"),
    r"curl -sO https://truststore\.pki\.rds\.amazonaws\.com/.*": (UNPROVED, "not reachable where this is tested"),
    r'psql "\$DATABASE" -c (?!.select image).*': (UNPROVED, "through a session into a real account's network"),
    r'psql "\$DATABASE" -c .select image.*|curl --cacert authority\.pem .*--request DELETE.*': (
        RUN,
        "tests/service/test_database.py::test_an_image_that_lost_its_pixels_to_a_failed_commit_is_found_and_healed",
    ),
    # -- others' programs
    r"orthanc-host (status|revoke-now( AET)?|rollback --hold REASON)": (RUN, "tests/host/test_service.py::operate"),
    r"orthanc-host converge": (ALIKE, "tests/host/test_service.py::two_at_once"),
    r"orthanc-host logs.*": (RUN, "tests/host_program/test_commands.py::test_logs_are_those_of_the_containers_and_the_agent_or_of_one"),
    r"actionlint \.github/workflows/preview\.yml": (UNPROVED, "a Go program, not among the packages of the tests; zizmor is"),
    r"(dnf -qy|apt-get) install .*": (UNPROVED, "the page names them as what was not run"),
    r"docker compose -p orthanc down": (ALIKE, "tests/service/conftest.py"),
    r"docker compose -f \.demo/compose\.yaml rm -sf orthanc": (
        ALIKE,
        "tests/service/test_database.py::test_orthanc_s_container_and_its_files_made_anew_lose_no_study",
    ),
    r"docker inspect": (RUN, "tests/service/test_secrets.py::test_no_secret_in_what_docker_tells_of_containers_and_images"),
    r"docker pause": (RUN, "tests/service/test_bench.py::test_a_quick_bench_prints_every_row_and_leaves_nothing_behind"),
    r"(pg_dump|pg_restore|vacuumdb) .*": (
        RUN,
        "tests/service/test_recovery.py::test_every_image_comes_back_as_it_was_into_a_service_with_new_keys",
    ),
    r"openssl req .*": (RUN, "tests/unit/test_settings.py::test_the_request_that_a_page_makes_is_taken"),
    r"storescu --scan-directories --recurse": (UNPROVED, "the bench's storescu scans, but one folder without others in it"),
    r"docker buildx imagetools inspect .*": (UNPROVED, "no registry is reachable where this is tested"),
    r'(cp "\$\(\.\./|echoscu|storescu(?! --scan)|findscu) ?.*': (
        RUN,
        "tests/service/test_connecting.py::test_dcmtks_commands_store_an_image_and_find_its_study",
    ),
    r"mkdir -p received|storescp .*|curl --fail --cacert authority\.crt .*": (
        RUN,
        "tests/service/test_connecting.py::test_the_receiver_shows_itself_to_the_server_and_is_sent_an_image",
    ),
    r"openssl pkcs12 .*": (RUN, "tests/service/test_connecting.py::test_the_one_file_holds_certificate_key_and_authority"),
    r"gdcmscu .*": (RUN, "tests/service/test_connecting.py::test_gdcms_commands_reach_a_plain_listener"),
    r"awk -F, .* manifest\.csv \| md5sum .*": (RUN, "tests/operations/test_export.py::test_the_manifest_is_what_md5sum_checks"),
}


def rows_for(command: str) -> list[str]:
    return [pattern for pattern in PROOFS if re.fullmatch(pattern, command)]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(text_of(page))])
def test_every_command_is_run_by_a_test_or_called_unproved(page: str) -> None:
    assert {command: rows_for(command) for command in commands(text_of(page)) if len(rows_for(command)) != 1} == {}


def test_every_row_is_about_a_command_of_a_page() -> None:
    used = {row for page in PAGES for command in commands(text_of(page)) for row in rows_for(command)}
    assert set(PROOFS) - used == set()


def proves(proof: str) -> bool:
    """The test is there: a file, or one of its functions, or one of its steps."""
    path, _, name = proof.partition("::")
    if not exists(path):
        return False
    defined = {node.name for node in ast.parse(text_of(path)).body if isinstance(node, ast.FunctionDef)} if path.endswith(".py") else set()
    stages: Mapping[str, tuple[Callable[..., str], ...]] = {
        "tests/host/test_service.py": service.STEPS,
        "tests/engine/test_life.py": steps.STEPS,
    }
    return not name or name in defined | {step.__name__ for step in stages.get(path, ())}


def test_every_test_that_runs_a_command_exists() -> None:
    assert [proof for how, proof in PROOFS.values() if how != UNPROVED and not proves(proof)] == []
    assert not [reason for how, reason in PROOFS.values() if how == UNPROVED and len(reason) < 10]


def test_every_target_that_is_said_to_be_tried_is() -> None:
    made = {command for page in PAGES for command in commands(text_of(page)) for row in rows_for(command) if PROOFS[row][0] == MADE}
    assert {command.split()[1] for command in made} <= HANDED_ON


def test_a_command_that_nobody_runs_is_found() -> None:
    page = "```sh\nmake up STACK=dev   # comment\nfrobnicate \\\n    --all\nKEY=$(aws kms create-key --query 'a b' --output text)\n```\n"
    assert commands(page) == ["make up STACK=dev", "frobnicate --all", "aws kms create-key --query 'a b' --output text)"]
    assert [len(rows_for(command)) for command in commands(page)] == [1, 0, 1]
    said = "Run `make up STACK=dev`, `sudo aws frob --nicate && A=1 make gone`; not `make`, `aws-samples/x`, `rm x` or `docker`.\n"
    assert commands(said) == ["make up STACK=dev", "aws frob --nicate", "make gone"]
    assert [len(rows_for(command)) for command in commands(said)] == [1, 0, 0]
    assert not proves("tests/host/test_service.py::gone")
    assert not proves("tests/unit/test_gone.py")
    assert proves("tests/host/test_service.py::enrol")


# -- claims ----------------------------------------------------------------------------------------------------------------


def claims(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each row of a table of claims, with its proofs as file::function."""
    for table in re.findall(r"(?m)^\| claim \| proved by \|\n\|---\|---\|\n((?:\|.*\n)+)", text):
        for claim, cell in re.findall(r"(?m)^\| (.*) \| (.*) \|$", table):
            proofs: list[str] = []
            for span in re.findall(r"`([^`]+)`", cell):
                path, _, name = span.partition("::")
                path = path or proofs[-1].partition("::")[0]
                proofs.append(f"{path if '/' in path else f'tests/service/{path}'}::{name}")
            yield claim, proofs


def unproved(text: str) -> list[str]:
    """A whole file proves nothing in particular: a claim names its tests."""
    return [f"{claim}: {proof}" for claim, proofs in claims(text) for proof in proofs or [""] if proof.endswith("::") or not proves(proof)]


def test_every_claim_names_the_tests_that_prove_it() -> None:
    text = text_of("docs/trust.md")
    assert len(list(claims(text))) == len(re.findall(r"(?m)^\| .*`.*::.* \|$", text)) > 25
    assert unproved(text) == []


def test_a_claim_that_nothing_proves_is_found() -> None:
    right = "`test_refusals.py::test_tls_1_1`, `::test_a_cbc_suite`, `tests/host/test_service.py::fill`"
    wrong = {
        "`::test_gone`": f"{right}, `::test_gone`",
        "whole file": "`test_refusals.py`",
        "nothing": "a look",
        "a step": "`test_load.py::fill`",
    }
    page = "| claim | proved by |\n|---|---|\n" + "".join(f"| {claim} | {cell} |\n" for claim, cell in {"right": right, **wrong}.items())
    assert [found.rpartition(": ")[0] for found in unproved(page)] == [*wrong]


# -- pages -----------------------------------------------------------------------------------------------------------------


def test_no_page_is_left_out() -> None:
    assert {name for name in tracked() if name.endswith(".md")} == {*PAGES, "CHANGELOG.md"}
