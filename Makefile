# criu-preflight: `make help` lists what can be made.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PLUGIN := $(TARGET)/plugin/preflight_plugin.so

# This machine's own, named: only then do flags for programs not reach the build scripts.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')

PREFIX ?= /usr/local
# Where the CRIU of this host looks for plugins, by its own words.
PLUGINDIR ?= $(or $(patsubst %/,%,$(shell criu --help 2>/dev/null | sed -n 's/.*path to a plugin directory (by default \(.*\))/\1/p')),/usr/lib/criu)

# The settings are read from this place only.
CONFIG := /etc/criu/preflight.conf
DOCDIR := $(PREFIX)/share/doc/criu-preflight

.PHONY: help docs header examples build setup provision test check test-vm test-runtimes test-programs demo bench scale race soak faults snapshots compare-snapshots fmt lint check-plugin install uninstall vendor deb rpm test-package clean
.DEFAULT_GOAL := build

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo
	@echo 'CARGO_TARGET_DIR=DIR takes the place of target; PREFLIGHT_CACHE=DIR keeps the CRIUs and kernels of the tests (.cache)'
	@echo 'install takes DESTDIR, PREFIX ($(PREFIX)), PLUGINDIR ($(PLUGINDIR))'

build: ## the plugin, target/plugin/preflight_plugin.so, and the command, target/release/criu-preflight
	$(CARGO) build --release --locked -p criu-preflight -p criu-preflight-cli
	@install -D -m 755 $(TARGET)/release/libcriu_preflight.so $(PLUGIN)
	@echo '$(PLUGIN)'

setup: ## installs by apt what building and testing need and this machine lacks
	@scripts/setup build test

provision: setup ## unpacks the real CRIUs the tests run against (nothing is installed)
	@scripts/provision-criu

test: provision build ## all tests, and the plugin against every real CRIU that works on this kernel (root)
	@scripts/test $(PLUGIN) $(TARGET)/release/criu-preflight

check: ## the tests that need no root, no network and no CRIU: for the build of a package
	$(CARGO) test --locked --lib -- --skip criu:: --skip scan:: --skip scanner::

# FILTER="lock tcp" runs the fixtures with these in their names, CRIU="3.17.1" these versions, VM_SUITE=trixie its kernel.
test-vm: provision build ## the plugin against every real CRIU under Debian's kernel in a virtual machine (slow)
	@scripts/setup vm
	$(CARGO) build --locked -p criu-tests
	@CRIU='$(CRIU)' scripts/test-vm $(PLUGIN) $(TARGET)/debug/differential $(FILTER)

# RUNTIMES="runc lxc" tests these, QUICK=1 only the essential. What is missing on this machine is said and skipped.
test-runtimes: setup build ## the plugin under the real runc, crun, podman, containerd, Docker and LXC, nothing configured (root)
	RUSTFLAGS='-C target-feature=+crt-static' $(CARGO) build -q --locked -p criu-tests --bin mkres --target $(HOST)
	@QUICK="$(QUICK)" scripts/test-runtimes $(PLUGIN) $(TARGET)/$(HOST)/debug/mkres $(TARGET)/release/criu-preflight $(RUNTIMES)

demo: provision build ## what the plugin does, on real CRIU (root)
	@$(CARGO) build -q --locked -p criu-tests
	@scripts/demo $(dir $(PLUGIN)) $(TARGET)/debug/mkres

# FILTER="1000 refused" measures the trees with these in their names.
bench: provision build ## what the plugin costs a dump and saves a refused one, on the newest CRIU that works here (root)
	@$(CARGO) build -q --release --locked -p criu-tests --bin bench
	@$(TARGET)/release/bench --plugin $(PLUGIN) $(FILTER)

# INSTALL=1 lets apt install the programs that are missing, PROGRAMS="nginx node" takes these only.
test-programs: provision build ## real programs of this machine: CRIU's verdict with and without the plugin (root)
	@scripts/real-programs $(PLUGIN) $(PROGRAMS)

# SEED=N begins elsewhere, TIME=SECONDS ends it early; soak.rs says how a tree is made again.
COUNT ?= 1000
SEED ?= 1
TIME ?= 3600
soak: provision build ## COUNT random trees of random resources: CRIU and the plugin must agree on each (root)
	@$(CARGO) build -q --release --locked -p criu-tests
	@$(TARGET)/release/soak --plugin $(PLUGIN) --count $(COUNT) --seed $(SEED) --time $(TIME)

# FILTER="tcp 4.3::exec" takes the kinds with these in their names (race --list names them), CRIU="4.2.1 4.3" or "all" these
# versions, SEED=N makes other trees, WARN=1 lets CRIU go on and say whether the frozen look was right.
PAIRS ?= 20
race: provision build ## moving trees, PAIRS dumps of each kind without and with the plugin: none is refused that CRIU dumps (root)
	@$(CARGO) build -q --release --locked -p criu-tests --bin race
	@$(TARGET)/release/race --plugin $(PLUGIN) --pairs $(PAIRS) --seed $(SEED) $(if $(WARN),--warn) $(addprefix --criu ,$(CRIU)) $(FILTER)

# FILTER="maps mounts" takes these alone, REAL=1 takes real dumps of each tree, too (slow).
scale: provision build ## how time, memory and system calls of a look grow with each thing in a tree, beside lsfd (root)
	@$(CARGO) build -q --release --locked -p criu-tests --bin scale
	@$(TARGET)/release/scale $(and $(REAL),--criu "$$(scripts/provision-criu --list | awk -F'\t' '$$3 == "works" { path = $$2 } END { print path }')" --plugin $(PLUGIN)) $(FILTER)

# SAMPLE=1 takes every plan (five times as many), FAULTS="--tree clean --call openat" some of them: see --bin faults.
SAMPLE ?= 5
faults: provision ## each system call of a look and of CRIU's side fails in turn: nothing is refused, left behind or lost in silence (root)
	@$(CARGO) build -q --profile checked --locked -p criu-tests --bin faults --bin mkres
	@$(CARGO) build -q --profile checked --locked -p criu-preflight --lib --features fault-injection --target-dir $(TARGET)/fault-injection
	@$(TARGET)/checked/faults --plugin $(TARGET)/fault-injection/checked/libcriu_preflight.so --sample $(SAMPLE) $(FAULTS)

# FILTER="tcp lock" takes the fixtures with these in their names only.
SNAPSHOTS ?= $(TARGET)/snapshots
snapshots: provision ## saved checks of the trees of all fixtures and of random ones, and their reports under many hosts (root)
	@$(CARGO) build -q --locked -p criu-tests -p criu-preflight-cli
	@$(TARGET)/debug/snapshots take $(SNAPSHOTS) $(if $(FILTER),$(FILTER),--random 100)
	@$(TARGET)/debug/snapshots report $(SNAPSHOTS)

compare-snapshots: ## judges the saved checks again: every report must be as it was
	@$(CARGO) build -q --release --locked -p criu-tests --bin snapshots
	@$(TARGET)/release/snapshots compare $(SNAPSHOTS)

# FILTER="4.3::lock" takes them from these fixtures; those of other rules stay.
examples: provision build ## src/report/examples.txt, what CRIU and the plugin print about the fixtures, for docs/rules.md (root)
	@$(CARGO) build -q --locked -p criu-tests
	@$(TARGET)/debug/differential --plugin $(PLUGIN) --dry-run $(TARGET)/release/criu-preflight --examples src/report/examples.txt $(FILTER)

docs: ## docs/rules.md, docs/inventory.md, the README's list of families and the options in criu-preflight(1), made from their tables
	UPDATE_DOCS=1 $(CARGO) test -q --locked --lib docs_are_current
	UPDATE_DOCS=1 $(CARGO) test -q --locked -p criu-preflight-cli the_manual_lists

header: ## include/criu_preflight.h, made from the C functions
	UPDATE_HEADER=1 $(CARGO) test -q --locked --lib the_header_is_current

fmt: ## formats the source
	$(CARGO) fmt --all

lint: ## formatting, clippy, links in the documentation, shell scripts, licences
	@scripts/setup build lint
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc -q -p criu-preflight --no-deps --document-private-items --locked
	shellcheck -x scripts/* .ci/run
	shellcheck -S warning -e SC2154,SC2054 criu-tests/runtimes/*.sh
	@scripts/check-licences
	@scripts/check-signals

check-plugin: build ## what the built plugin needs of a host and shows to it
	@scripts/check-plugin $(PLUGIN)

# What is built is installed as it is: `make && sudo make install` needs no Rust under sudo.
$(PLUGIN):
	$(MAKE) build

# Put beside and renamed: a CRIU that starts meanwhile sees the old file or the new one, never half of one. Settings that
# are there stay as they are. The documents lie as they do here: they link each other.
install: $(PLUGIN) ## the plugin, the command, its settings, the manual pages, the documents and the C header
	install -d '$(DESTDIR)$(PLUGINDIR)'
	install -m 755 $(PLUGIN) '$(DESTDIR)$(PLUGINDIR)/.preflight_plugin.new'
	mv -f '$(DESTDIR)$(PLUGINDIR)/.preflight_plugin.new' '$(DESTDIR)$(PLUGINDIR)/preflight_plugin.so'
	install -D -m 755 $(TARGET)/release/criu-preflight '$(DESTDIR)$(PREFIX)/bin/criu-preflight'
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/include' include/criu_preflight.h
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/man/man1' docs/criu-preflight.1
	install -D -m 644 -t '$(DESTDIR)$(PREFIX)/share/man/man7' docs/criu-preflight.7
	install -D -m 644 -t '$(DESTDIR)$(DOCDIR)' README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md LICENSE
	install -D -m 644 -t '$(DESTDIR)$(DOCDIR)/docs' docs/*.md docs/preflight.schema.json
	install -D -m 644 -t '$(DESTDIR)$(DOCDIR)/examples' examples/check.c
	[ -e '$(DESTDIR)$(CONFIG)' ] || install -D -m 644 packaging/preflight.conf '$(DESTDIR)$(CONFIG)'

uninstall: ## takes away what install has put there; settings that were changed stay
	rm -f '$(DESTDIR)$(PLUGINDIR)/preflight_plugin.so' '$(DESTDIR)$(PREFIX)/bin/criu-preflight' \
	      '$(DESTDIR)$(PREFIX)/include/criu_preflight.h' '$(DESTDIR)$(PREFIX)/share/man/man1/criu-preflight.1' \
	      '$(DESTDIR)$(PREFIX)/share/man/man7/criu-preflight.7'
	rm -rf '$(DESTDIR)$(DOCDIR)'
	! cmp -s packaging/preflight.conf '$(DESTDIR)$(CONFIG)' || rm -f '$(DESTDIR)$(CONFIG)'

vendor: ## the sources of all crates into vendor/, and cargo's settings that take them from there: then no build needs a network
	$(CARGO) vendor --locked vendor >/dev/null
	install -D -m 644 packaging/cargo-vendored.toml .cargo/config.toml

# Both package what `build` has built: same flags, same directory, so that nothing is built twice. `dpkg-buildpackage` and
# `rpmbuild` by themselves build as a distribution does (docs/packaging.md).
PACKAGES := $(abspath $(TARGET))/packages

deb: build ## the Debian package, in target/packages
	@scripts/setup build package
	@mkdir -p $(PACKAGES) && rm -f $(PACKAGES)/criu-preflight_*
	CARGO_TARGET_DIR=$(abspath $(TARGET)) DEBDIR=$(PACKAGES) DEB_BUILD_OPTIONS='nocheck noautodbgsym' \
	    dpkg-buildpackage -us -uc -b --post-clean --buildinfo-option=-u$(PACKAGES) --changes-option=-u$(PACKAGES) \
	    --buildinfo-file=$(PACKAGES)/criu-preflight.buildinfo --changes-file=$(PACKAGES)/criu-preflight.changes

# On a machine whose own packages are not RPM's, rpm knows no package that is here and has other directories.
rpm: build ## the RPM packages, criu-preflight and criu-preflight-devel, in target/packages
	@scripts/setup build package
	@mkdir -p $(PACKAGES) && rm -f $(PACKAGES)/*.rpm
	CARGO_TARGET_DIR=$(abspath $(TARGET)) rpmbuild -bb --quiet --build-in-place --noclean --nocheck \
	    $(shell rpm -q rpm >/dev/null 2>&1 || echo "--nodeps --define '_libdir /usr/lib64'") \
	    --define '_topdir $(PACKAGES)/rpmbuild' --define '_rpmdir $(PACKAGES)' \
	    --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' packaging/criu-preflight.spec
	@rm -rf $(PACKAGES)/rpmbuild

test-package: deb rpm provision ## the packages checked, installed, used with every real CRIU and removed (root)
	@scripts/test-package $(PACKAGES)

clean: ## what was built (the cache of CRIUs stays)
	$(CARGO) clean
	rm -rf $(TARGET)/plugin
