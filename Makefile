# SPDX-License-Identifier: GPL-3.0-or-later
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
PLAY := $(BIN)/ansible-playbook
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
export UV_CACHE_DIR ?= $(CURDIR)/.cache/uv
REPOSITORY := $(CURDIR)/build/images
OLD_IMAGE := 2.4.4
NEW_IMAGE := 2.4.5.9-p1
# Both sides of the schema change, the tags whose own pins no longer resolve, and a patch's base.
TEST_IMAGES := "2.3.9.2", "2.4.0", "2.4.1", "2.4.2", "2.4.5.9"
comma := ,
build_images = $(PLAY) -i localhost, playbooks/image.yml -e wmagent_repository=$(REPOSITORY) \
	-e wmagent_image_cache=$(CURDIR)/.cache/images -e '{"wmagent_images": [$(1)]}'
PYTEST := $(BIN)/pytest

.PHONY: help setup demo demo-drain demo-down images test-images test test-long unit molecule lint bench bench-halfyear docs docs-site lock build clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: ## apt packages and .venv, where missing
	@tools/setup

images: setup ## the images of the demo, into build/images
	@$(call build_images,"$(OLD_IMAGE)"$(comma) "$(NEW_IMAGE)")

test-images: images ## those and the other images that tests and benchmarks need
	@$(call build_images,$(TEST_IMAGES))

demo: images ## three agents deployed by hand, rolled to a new release
	@$(PLAY) playbooks/lab.yml -e wmagent_repository=$(REPOSITORY) -e wmagent_lab_image=$(OLD_IMAGE)
	@$(PLAY) playbooks/upgrade.yml -e wmagent_repository=$(REPOSITORY) -e wmagent_image=$(NEW_IMAGE)

# The schema changes between these two: code alone is not enough.
DRAIN_LAB := $(CURDIR)/build/lab-drain
DRAIN_IMAGES := "2.4.1", "2.4.2"
demo-drain: setup ## an agent of three drains, its bottleneck found, and is redeployed with another schema
	@$(call build_images,$(DRAIN_IMAGES))
	@export WMAGENT_LAB_DIR=$(DRAIN_LAB) && \
	    $(PLAY) playbooks/lab.yml -e wmagent_repository=$(REPOSITORY) -e wmagent_lab_image=2.4.1 \
	        -e wmagent_lab_start=quick -e wmagent_lab_work_seconds=60 -e '{"wmagent_components": ["RetryManager"]}' && \
	    $(PLAY) playbooks/drain.yml -l lab01 -e wmagent_repository=$(REPOSITORY) -e wmagent_image=2.4.2 && \
	    $(PLAY) playbooks/redeploy.yml -l lab01 -e wmagent_repository=$(REPOSITORY) -e wmagent_image=2.4.2 \
	        -e wmagent_confirm_wipe=lab01 -e '{"wmagent_components": ["RetryManager"]}' && \
	    $(PLAY) playbooks/lab.yml -e wmagent_lab_state=absent

demo-down: ## end the demo's processes and remove build/lab
	@if [ -x $(PLAY) ]; then $(PLAY) playbooks/lab.yml -e wmagent_lab_state=absent; fi

# A test file at a time on each of two processes, in this order, since the longest come first.
PARALLEL ?= -n 2 --dist loadfile --no-loadscope-reorder

# The JVM of these tests has crashed the interpreter, rarely and for a reason not found yet: they run in a process of
# their own, and once more where it was ended by a signal. A test that fails is never run again.
JVM_TESTS := $(addprefix tests/integration/test_dbsbuffer_,archive.py deletion.py interleaving.py one_writer.py \
	selection.py space.py support.py) tests/integration/test_drain_database.py

# The JVM's tests beside the others, and lint beside the images: half of what those do is waiting.
test: setup ## lint and all tests, but for more cases of the same
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint test-images
	@mkdir -p build; set +e; \
	    jvm() { $(PYTEST) $(JVM_TESTS); code=$$?; [ $$code -ge 128 ] || return $$code; $(PYTEST) $(JVM_TESTS); }; \
	    jvm > build/jvm-tests.log 2>&1 & \
	    $(PYTEST) tests -m "not long" $(PARALLEL) $(addprefix --ignore=,$(JVM_TESTS)); code=$$?; \
	    wait $$!; jvm=$$?; cat build/jvm-tests.log; exit $$((code ? code : jvm))

test-long: test-images ## the cases that make test leaves out: more kills, more bad input, every molecule scenario
	@$(PYTEST) tests -m long

molecule: images ## the scenarios alone; SCENARIO=upgrade runs one
	@MOLECULE_EPHEMERAL_DIRECTORY=$(CURDIR)/build/molecule MOLECULE_COMMAND_BORDERS=false \
	    $(BIN)/molecule test $(if $(SCENARIO),-s $(SCENARIO),--all)

unit: setup ## tests that need no image and no lab
	@$(PYTEST) tests/unit

lint: setup ## ansible-lint, ruff, mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy -p ansible_collections.dmwm.wmagent.plugins
	@$(BIN)/ansible-lint --offline -q

bench: test-images ## measure; ONLY=<word> runs some
	@$(BIN)/python -m tests.benchmarks $(if $(ONLY),--only $(ONLY))

bench-halfyear: setup ## half a year of an agent at accelerated time, with the scheduled cleanup and without
	@$(BIN)/python -m tests.benchmarks.halfyear

docs: setup ## check the documentation of every module and role
	@$(BIN)/antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .

SITE := build/docs-site
docs-site: setup ## the documentation as a site, into build/docs-site/html
	@[ requirements/docs.txt -ot build/docs-venv/.installed ] || { \
	    $(BIN)/uv venv -q --clear --python $(BIN)/python build/docs-venv && \
	    $(BIN)/uv pip install -q --python build/docs-venv/bin/python --require-hashes -r requirements/docs.txt && \
	    touch build/docs-venv/.installed; }
	@rm -rf $(SITE) && mkdir -p $(SITE)/guide && mkdir -m 700 $(SITE)/collections
	@cp tools/docs_site/* $(SITE)/ && cp -r docs/. $(SITE)/guide/
	@PATH=$(CURDIR)/build/docs-venv/bin:$$PATH ANSIBLE_COLLECTIONS_PATH=$(CURDIR)/collections antsibull-docs collection \
	    --use-current --squash-hierarchy --dest-dir $(SITE)/collections dmwm.wmagent
	@build/docs-venv/bin/sphinx-build -q -W --keep-going -b html $(SITE) $(SITE)/html

lock: setup ## lock requirements/dev.in, docs.in and the tools again
	@for set in requirements/dev requirements/docs roles/image/files/tools; do $(BIN)/uv pip compile -q --generate-hashes --universal --no-annotate --no-header \
	    -p 3.11 $$set.in -o $$set.txt; done

build: setup ## the collection's tarball, into build/
	@$(BIN)/ansible-galaxy collection build --force --output-path build .

clean: demo-down ## remove everything that was made
	@rm -rf build .cache .venv
