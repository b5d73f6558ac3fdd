# A private imaging service: on this machine (make demo), and on AWS. `make` alone lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
export PYTHON
export PULUMI_ERROR_OUTPUT_STRING := 1

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# -- the imaging service on this machine ---------------------------------------------------------------------------------

.PHONY: demo
demo: $(VENV)/laptop ## bring the service up here and store a study (DICOM_PORT=11112 WEB_PORT=8443)
	@laptop/prerequisites docker -- $(VENV)/bin/python -m laptop demo $(if $(DICOM_PORT),--dicom-port $(DICOM_PORT)) $(if $(WEB_PORT),--web-port $(WEB_PORT))

.PHONY: demo-enrol
demo-enrol: $(if $(AET),$(VENV)/laptop) ## let a modality in: AET=CT1 [MAY=store,find] [ADDRESS=10.0.0.5 PORT=104]
	@laptop/prerequisites docker -- $(VENV)/bin/python -m laptop enrol $(or $(AET),$(error say which: make demo-enrol AET=CT1)) $(if $(MAY),--may $(MAY)) $(if $(ADDRESS),--address $(ADDRESS)) $(if $(PORT),--port $(PORT))

.PHONY: demo-strike
demo-strike: $(if $(AET),$(VENV)/laptop) ## refuse a modality from now on: AET=CT1
	@laptop/prerequisites docker -- $(VENV)/bin/python -m laptop strike $(or $(AET),$(error say which: make demo-strike AET=CT1))

.PHONY: demo-logs
demo-logs: $(VENV)/laptop ## who did what lately
	@laptop/prerequisites docker -- $(VENV)/bin/python -m laptop logs

.PHONY: demo-backup
demo-backup: $(if $(FILE),$(VENV)/laptop) ## copy all studies into one file, while it runs: FILE=/backups/studies.dump
	@laptop/prerequisites docker -- $(VENV)/bin/python -m laptop backup "$(or $(FILE),$(error say which file: make demo-backup FILE=/backups/studies.dump))"

.PHONY: demo-restore
demo-restore: $(if $(FILE),$(VENV)/laptop) ## bring a service up that holds what a backup holds: FILE=/backups/studies.dump (DICOM_PORT= WEB_PORT=)
	@laptop/prerequisites docker -- $(VENV)/bin/python -m laptop restore "$(or $(FILE),$(error say which file: make demo-restore FILE=/backups/studies.dump))" $(if $(DICOM_PORT),--dicom-port $(DICOM_PORT)) $(if $(WEB_PORT),--web-port $(WEB_PORT))

.PHONY: demo-down
demo-down: $(VENV)/laptop ## stop it, keeping data and keys
	@laptop/prerequisites docker -- $(VENV)/bin/python -m laptop down

.PHONY: demo-clean
demo-clean: $(VENV)/laptop ## leave nothing of it behind
	@laptop/prerequisites docker -- $(VENV)/bin/python -m laptop clean
	@rm -rf $(VENV) config_templates/__pycache__ config_templates/*/__pycache__ laptop/__pycache__

# -- on AWS ----------------------------------------------------------------------------------------------------------------

.PHONY: up
up: $(if $(STACK),$(VENV)/dev) ## bring a stack to AWS, and wait until its host has proven the service: STACK=dev [YES=1]
	@$(VENV)/bin/python -m operations up $(or $(STACK),$(error say which: make up STACK=dev)) $(if $(YES),-- --yes)

.PHONY: modality
modality: $(if $(and $(AET),$(STACK)),$(VENV)/dev) ## write what a modality's vendor needs: AET=CT1 STACK=dev [CERTIFICATE=2] [OUT=folder]
	@$(VENV)/bin/python -m operations modality $(or $(AET),$(error say which: make modality AET=CT1 STACK=dev)) $(or $(STACK),$(error say of which stack: make modality AET=CT1 STACK=dev)) $(if $(CERTIFICATE),--certificate $(CERTIFICATE)) $(if $(OUT),--out "$(OUT)")

.PHONY: gateway
gateway: $(if $(AET),$(VENV)/dev) ## write a gateway for equipment without TLS: AET=CT1 STACK=dev, or no STACK for the demo [FROM=CT1,MR1 NETWORK=192.168.10.0/24]; more: docs/gateway.md
	@$(VENV)/bin/python -m operations gateway $(or $(AET),$(error say which: make gateway AET=CT1 STACK=dev)) $(STACK) $(if $(FROM),--from "$(FROM)") $(if $(NETWORK),--network "$(NETWORK)") $(if $(LISTEN),--listen "$(LISTEN)") $(if $(DICOM_PORT),--dicom-port $(DICOM_PORT)) $(if $(DIRECT_PORT),--direct-port $(DIRECT_PORT)) $(if $(STATUS_PORT),--status-port $(STATUS_PORT)) $(if $(QUEUE_MB),--queue-mb "$(QUEUE_MB)") $(if $(ALARM),--alarm "$(ALARM)") $(if $(CERTIFICATE),--certificate $(CERTIFICATE)) $(if $(OUT),--out "$(OUT)")

.PHONY: verify
verify: $(VENV)/$(if $(STACK),dev,laptop) ## ask a service from outside whether all is well: STACK=dev, or nothing for the demo here [AET=CT1]
	@$(VENV)/bin/python -m operations verify $(STACK) $(if $(AET),--aet $(AET))

.PHONY: import
import: $(if $(FROM),$(VENV)/$(if $(STACK),dev,laptop)) ## send an archive's files to a service: FROM=/folder [STACK=dev] [AET=CT1] [PARALLEL=4] [OUT=folder]
	@$(VENV)/bin/python -m operations import "$(or $(FROM),$(error say from where: make import FROM=/folder))" $(STACK) $(if $(AET),--aet $(AET)) $(if $(PARALLEL),--parallel $(PARALLEL)) $(if $(OUT),--out "$(OUT)")

.PHONY: export
export: $(if $(TO),$(VENV)/$(if $(STACK),dev,laptop)) ## fetch every object of a service into files: TO=/folder [STACK=dev] [PARALLEL=4]
	@$(VENV)/bin/python -m operations export "$(or $(TO),$(error say where to: make export TO=/folder))" $(STACK) $(if $(PARALLEL),--parallel $(PARALLEL))

# -- working on it --------------------------------------------------------------------------------------------------------

.PHONY: test
test: $(VENV)/dev ## all tests; installs Docker, dcmtk, gdcm and Chromium where they are missing
	@laptop/prerequisites docker peers equipment browser registry -- $(VENV)/bin/python -m tests

.PHONY: test-fast
test-fast: $(VENV)/dev ## the tests that need no container, in about four minutes
	@$(VENV)/bin/python -m pytest -m "not service and not engine and not host"

.PHONY: bench
bench: $(VENV)/laptop ## measure the service here: against itself without TLS, and against the original's configuration (docs/performance.md) [QUICK=1]
	@laptop/prerequisites docker peers -- $(VENV)/bin/python -m laptop bench $(if $(QUICK),--quick)

ACTS := service stack
.PHONY: rehearse
rehearse: $(if $(filter-out $(ACTS),$(ACT)),,$(VENV)/dev) ## the whole life of stack and host: real Pulumi engine, emulated AWS, hosts in containers [ACT=service|stack]
	@laptop/prerequisites docker registry -- $(VENV)/bin/python -m rehearsal $(if $(filter-out $(ACTS),$(ACT)),$(error there are two acts: make rehearse ACT=service, make rehearse ACT=stack; without ACT, both),$(ACT))

.PHONY: docs
docs: $(VENV)/dev ## write docs/settings.md anew from the Settings class
	@$(VENV)/bin/python -m operations.reference

.PHONY: mutants
mutants: $(VENV)/dev ## break every line that keeps somebody out, one at a time: does a test notice? [ONLY=nginx]
	@$(VENV)/bin/python -m tests.mutation $(if $(ONLY),--only "$(ONLY)")

.PHONY: check
check: $(VENV)/dev ## formatting, lint and types
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/yamllint --strict .

# A package whose installation was cut off would count as installed: where `unfinished` lies, the environment is made anew.
define install
	@laptop/prerequisites python
	@if [ ! -x $(VENV)/bin/python ] || [ -e $(VENV)/unfinished ]; then \
	  rm -rf $(VENV) && mkdir $(VENV) && touch $(VENV)/unfinished && $(PYTHON) -m venv $(VENV); fi
	@echo "    installing Python packages into $(VENV)"
	@touch $(VENV)/unfinished
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r $< || { \
	  echo "error: Python packages could not be installed: see above. Connect to the internet, or make room, and try again." >&2; exit 1; }
	@rm $(VENV)/unfinished
endef

$(VENV)/laptop: laptop/requirements.txt
	$(install)
	@touch $@

$(VENV)/dev: requirements-dev.txt requirements.txt laptop/requirements.txt
	$(install)
	@touch $@ $(VENV)/laptop
