# Front door. The build itself is meson's; see HACKING.md.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
MESON_FLAGS ?=
export INSULA_BUILD := $(abspath $(BUILD))

.PHONY: all deps test-deps guest images demo check check-full bench lint install uninstall clean

all: $(BUILD)/build.ninja
	@ninja --quiet -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD) --prefix $(PREFIX) $(MESON_FLAGS)

# Packages: only what is missing is installed.
deps:
	@tools/install-deps build run
test-deps:
	@tools/install-deps build run test

# The guest kernel (unpacked from the distribution's package, never installed) and its initramfs.
guest: all
	@tools/guest-image $(BUILD)/guest $(BUILD)

# busybox and debian, made locally: no registry is asked.
images:
	@tools/make-images $(BUILD)/images

demo: deps
	@$(MAKE) --no-print-directory all guest images
	@tools/demo $(BUILD)

check: test-deps
	@$(MAKE) --no-print-directory all guest images
	@tests/run.py --build $(BUILD)

# Everything that check runs, and the parts of EXTRA in tests/run.py, but for those of FULL_WITHOUT, that fit into
# FULL_MINUTES from FULL_SINCE on.
FULL_MINUTES ?= 10000
FULL_SINCE ?= $(shell date +%s)
FULL_WITHOUT ?=
check-full: test-deps
	@$(MAKE) --no-print-directory all guest images
	@tests/run.py --build $(BUILD) --full --minutes $(FULL_MINUTES) --since $(FULL_SINCE) $(FULL_WITHOUT:%=--without %)

bench: test-deps
	@$(MAKE) --no-print-directory all guest images
	@bench/run.py --build $(BUILD)
	@bench/net.py --build $(BUILD)
	@bench/pull.py --build $(BUILD)
	@bench/api.py --build $(BUILD)
	@bench/plot.py --build $(BUILD)
	@bench/kvm.py --build $(BUILD)

lint:
	@tools/check-layers
	@tools/check-columns

# A PREFIX that is given here is configured first: it stands in the systemd unit.
ifneq ($(origin PREFIX),file)
SET_PREFIX = meson configure $(BUILD) -Dprefix=$(PREFIX)
endif

install: $(BUILD)/build.ninja
	@$(SET_PREFIX)
	@ninja --quiet -C $(BUILD)
	DESTDIR=$(abspath $(DESTDIR)) meson install -C $(BUILD) --no-rebuild

uninstall: $(BUILD)/build.ninja
	@$(SET_PREFIX)
	@ninja --quiet -C $(BUILD) build.ninja
	@tools/uninstall $(BUILD) "$(abspath $(DESTDIR))"

clean:
	rm -rf $(BUILD)
