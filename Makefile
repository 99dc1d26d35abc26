# Agentbot: what people and CI call. Each target says what it does; the work is in scripts/.

PREFIX ?= /usr/local
DESTDIR ?=
export PREFIX DESTDIR KEEP IMAGE

.DEFAULT_GOAL := help
.PHONY: help quickstart quickstart-stop build test test-nightly bench lint image install uninstall
# Targets drive cargo, which is parallel by itself, and the one engine of the machine.
.NOTPARALLEL:

help: ## shows this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

quickstart: ## builds, starts the daemon and provisions an agent; 5 to 10 minutes the first time
	@scripts/quickstart.sh

quickstart-stop: ## stops the agents (KEEP=1: not) and the daemon that quickstart left running; data stays
	@scripts/quickstart-stop.sh

build: ## builds agentbotd, agentbotctl and agentbot-agent into target/release
	@scripts/build.sh

test: ## every check of a change, with a real Docker Engine; up to 25 minutes the first time
	@scripts/test.sh

test-nightly: ## the same and the long tests
	@scripts/test.sh --nightly

bench: ## measures against the engine and against bare handlers, and prints ratios
	@scripts/bench.sh

lint: ## form, lints, scripts, the systemd unit, and what dependencies may be
	@scripts/lint.sh

image: ## builds the agent's image with the Dockerfile (IMAGE=agentbot/agent:local)
	@scripts/image.sh

install: ## installs what was built below DESTDIR/PREFIX (PREFIX=/usr/local)
	@scripts/install.sh

uninstall: ## removes what was installed; state and settings stay
	@scripts/uninstall.sh
