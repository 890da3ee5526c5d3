# make run      set everything up and open the console on the embedded lab (as root); make run -- --egress stack: without devices
# make setup    set everything up; the command is then at .venv/bin/souppp-tui
# make test     set-up, then all tests (as root, or those that need root are skipped)
# make test-kernels   the program in guests with other kernels and cards, some 15 minutes (as root)
# make test-service   the package's systemd unit in guests with Debian 12 and 13, some 40 minutes (as root)
# make check    linters, types and import contracts
# make coverage   what the unit tests alone, without the soak, reach of the protocol and the supervisor; fails below 95 %
# make soak LIFETIMES=100000    sessions come up and end under random faults, in virtual time; some 100 a second
# make soak-served SECONDS=3600 SESSIONS=10000    consoles come and go, one stands still: nobody waits, the engine doesn't grow (as root)
# make stack    build/souppp-stack, the network stack for sessions without a device; installs Go and its packages for it
# make wheel    build/dist/*.whl, for pip
# make deb      build/deb/*.deb, a package for this release of Debian; one of the network stack too, after make stack
# make install DESTDIR= PREFIX=/usr/local    what the package holds, without the package
# make test-distros   set-up, lab, unit tests and the package on a bare Debian 12 and 13 (as root; takes 15 minutes)
# make lock     pin the Python packages that pyproject.toml asks for, with hashes; what is pinned stays as it is
# make test-newest, make lock-newest    all tests with the newest Python packages; pin those
# make screenshots, make bench-datapath, make bench-console, make bench-bystanders, make bench-proxy, make bench-scale, make bench-stack, make fuzz SECONDS=60
# make clean    remove all that the above made, but for Debian packages
#
# Nothing is written outside this folder but Debian packages. What is up to date is not made again.

SECONDS ?= 60
SESSIONS ?= 10000
LIFETIMES ?= 100000
PREFIX ?= /usr/local
DESTDIR ?=

bin := .venv/bin
# A virtual environment survives neither a move of its folder nor another Debian: the name tells both.
installed := .venv/installed-$(firstword $(shell { pwd; grep VERSION_ID /etc/os-release; } | cksum))
# The stack program is a part apart: where Go isn't installed, all else is made without it.
stack-if-to-be-had := if command -v go >/dev/null && [ -d /usr/share/gocode/src/gvisor.dev ]; then $(MAKE) --silent -C engine/egress/stack; fi
export PIP_NO_CACHE_DIR := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# The tests start hundreds of programs: modules that are compiled once save each of them half a second.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run setup dev test coverage soak soak-served wheel install deb test-kernels test-service test-distros check lock lock-newest test-newest
.PHONY: screenshots bench-datapath bench-console bench-bystanders bench-proxy bench-scale bench-stack fuzz clean help packages test-packages helper stack stack-for-tests

# make run -- --egress stack: to make both words are goals, of which the second is built first.
egress := $(if $(filter --egress,$(MAKECMDGOALS)),--egress $(lastword $(MAKECMDGOALS)))
run: setup $(if $(egress),$(filter stack,$(MAKECMDGOALS)))
	@$(bin)/souppp-tui --lab $(egress)
--egress device none:
	@:

setup: packages $(installed) helper build/bcc-headers

dev: setup test-packages $(installed)-dev stack-for-tests

# Five at a time, also on two processors: most tests wait for something most of the time.
test: dev
	$(bin)/python -m pytest --numprocesses 5 --dist loadfile --no-loadscope-reorder || $(bin)/python -m tests.again

coverage: dev
	@rm -rf build/coverage && mkdir -p build/coverage
	$(bin)/python -m coverage run -m pytest --numprocesses 2 --dist loadfile --timeout 600 tests/unit --ignore tests/unit/test_soak.py
	@$(bin)/python -m coverage combine --quiet
	$(bin)/python -m coverage report

test-kernels: dev
	$(bin)/python -m tests.kernels.matrix

soak: dev
	SOAK_LIFETIMES=$(LIFETIMES) $(bin)/python -m pytest --timeout 0 tests/unit/test_soak.py

test-service: dev
	$(bin)/python -m tests.service.releases

soak-served: dev
	$(bin)/python -m tests.system.soak_served --sessions $(SESSIONS) --seconds $(SECONDS)

wheel: setup
	@rm -rf build/dist
	@$(bin)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/dist .
	@echo build/dist/*.whl

install: wheel
	@$(bin)/python scripts/install build/dist/*.whl '$(PREFIX)' '$(DESTDIR)'

deb: wheel
	@rm -rf build/deb
	@scripts/deb build/dist/*.whl build/deb
	@$(stack-if-to-be-had)
	@if [ -x build/souppp-stack ]; then scripts/deb-stack build/souppp-stack build/deb; else echo "Without Go, so without the package souppp-stack: make stack"; fi
	@echo build/deb/*.deb

check: setup $(installed)-dev
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports --cache-dir build/import-linter

test-distros: dev
	scripts/distro trixie
	scripts/distro bookworm

lock: packages
	@scripts/lock requirements

lock-newest: packages
	@scripts/lock requirements --upgrade

test-newest: dev
	@mkdir -p build/newest
	@scripts/lock build/newest --upgrade
	@scripts/setup environment build/newest/venv build/newest
	@scripts/setup python-packages build/newest/venv build/newest/dev.txt
	build/newest/venv/bin/python -m pytest --numprocesses 2 --dist loadfile

screenshots: dev
	$(bin)/python scripts/screenshots

bench-datapath: dev
	$(bin)/python benchmarks/datapath.py

bench-console: dev
	$(bin)/python benchmarks/console.py

bench-proxy: dev
	$(bin)/python -m benchmarks.proxies

bench-scale: dev
	$(bin)/python -m benchmarks.scale $(if $(AGAINST),--against $(AGAINST)) $(SCALE)
	$(if $(BNGBLASTER),$(bin)/python -m benchmarks.blaster $(BNGBLASTER))

bench-stack: dev stack
	$(bin)/python -m benchmarks.stack

bench-bystanders: dev
	$(bin)/python -m benchmarks.bystanders

fuzz: dev
	scripts/fuzz $(SECONDS)

clean:
	rm -rf .venv build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

packages:
	@scripts/setup packages

test-packages: packages
	@scripts/setup test-packages

helper: | packages
	@$(MAKE) --silent -C engine/datapath

stack:
	@scripts/setup stack-packages
	@$(MAKE) --silent -C engine/egress/stack

stack-for-tests: | test-packages
	@$(stack-if-to-be-had)

build/bcc-headers: scripts/bcc-headers | packages
	@mkdir -p build
	@scripts/bcc-headers $@
	@touch $@

$(installed): pyproject.toml requirements/run.txt | packages
	@scripts/setup environment .venv requirements
	@touch $@

$(installed)-dev: requirements/dev.txt $(installed)
	@scripts/setup python-packages .venv requirements/dev.txt
	@touch $@
