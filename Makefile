# A thin face of CMakeLists.txt and CMakePresets.json: each target makes sure
# of its packages (.ci/setup), builds one preset and calls one program.

PREFIX ?= /usr/local
APP ?= apps/hello
ARGS ?=
SECONDS ?= 60

.PHONY: all run build test lint format asan coverage fuzz bench soak install \
  clean help
all: build

# Configures once; ninja does it again by itself when CMakeLists.txt changes.
build/%/build.ninja: CMakePresets.json
	@cmake --preset $* --log-level=WARNING
	@touch $@

build/%/.built: build/%/build.ninja FORCE
	@cmake --build --preset $*
.PHONY: FORCE
.PRECIOUS: build/%/build.ninja

setup-%:
	@.ci/setup run $(filter-out run,$*)

run: setup-run build/release/build.ninja ## install what is missing, build, serve APP (apps/hello)
	@cmake --build --preset release --target perilune
	@exec build/release/bin/perilune run $(APP) $(ARGS)

build: setup-run ## the launcher: build/release/bin/perilune
	@$(MAKE) --no-print-directory build/release/.built

test: setup-test ## every test, C and Lua
	@$(MAKE) --no-print-directory build/release/.built
	@.ci/test release

lint: setup-lint ## luacheck and clang-format
	@.ci/lint

format: setup-lint ## clang-format over all C, in place
	@.ci/lint format

asan: setup-test ## every test under the sanitizers
	@$(MAKE) --no-print-directory build/asan/.built
	@.ci/test asan

coverage: setup-coverage ## every test, and which lines of C it executes
	@.ci/setup test
	@$(MAKE) --no-print-directory build/coverage/.built
	@find build/coverage -name '*.gcda' -delete
	@.ci/test coverage
	@gcovr --root . --filter core/ --exclude core/test/ \
	  --object-directory build/coverage

fuzz: setup-fuzz ## run the fuzz targets, SECONDS (60) each
	@$(MAKE) --no-print-directory build/fuzz/.built
	@.ci/fuzz $(SECONDS)

bench: setup-bench ## measure against the peers; ARGS go to bench/run.lua
	@$(MAKE) --no-print-directory build/release/.built
	@luajit bench/run.lua $(ARGS)

soak: setup-test ## under load and for long; ARGS: stress, spin or kill, options
	@$(MAKE) --no-print-directory build/release/.built
	@luajit bench/soak.lua $(ARGS)

install: setup-run ## into PREFIX (/usr/local), below DESTDIR
	@$(MAKE) --no-print-directory build/release/.built
	@DESTDIR='$(DESTDIR)' cmake --install build/release --prefix '$(PREFIX)'

clean: ## remove all that was built
	@rm -rf build

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' \
	  Makefile
