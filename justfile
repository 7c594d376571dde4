# The usual errands. https://just.systems; every recipe is a line or two of shell that works without just, too.

# see it work
demo *options:
    go run ./cmd/p2psip demo {{options}}

# all tests; those against SIPp and baresip need them installed
test *options:
    go test ./... {{options}}

# the same under the race detector, without the slow ones
race:
    go test -race -short ./...

# fuzz every target for a while: just fuzz 10m
fuzz time="1m":
    #!/usr/bin/env bash
    set -euo pipefail
    for pkg in $(go list ./...); do
        for target in $(go test -list '^Fuzz' "$pkg" | grep '^Fuzz' || true); do
            echo "== $pkg $target"
            go test -run '^$' -fuzz "^$target\$" -fuzztime {{time}} "$pkg"
        done
    done

# formatting and mistakes
lint:
    test -z "$(gofmt -l .)"
    go vet ./...
    go run honnef.co/go/tools/cmd/staticcheck@v0.6.1 ./...

# the SIP core and the overlay, measured
bench *options:
    go test -run '^$' -bench . -benchmem ./... {{options}}
