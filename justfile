# What people type. `just` alone lists this.

_:
    @just --list

# an overlay of twelve nodes and a call across it, in one process
demo *args:
    go run ./cmd/p2psip demo {{args}}

# everything, with whatever real phones are installed
test *args:
    go test {{args}} ./...

# the same under the race detector, without the longest tests
race:
    go test -race -short ./...

# every fuzz target for a while: just fuzz 10m
fuzz time="1m":
    #!/usr/bin/env bash
    set -euo pipefail
    for f in $(git grep -l '^func Fuzz' -- '*_test.go'); do
        for t in $(grep -o '^func Fuzz[A-Za-z]*' "$f" | cut -c6-); do
            go test "./$(dirname "$f")" -run XXX -fuzz "^$t\$" -fuzztime {{time}} -fuzzminimizetime 10x
        done
    done

# what the linters say
lint:
    test -z "$(gofmt -l $(git ls-files '*.go') | tee /dev/stderr)"
    go vet ./...
    go run honnef.co/go/tools/cmd/staticcheck@v0.8.0 ./...

# the figures of BENCHMARKS.md
bench:
    go test ./overlay -run XXX -bench Far -benchtime 50x
    go test ./interwork/proxy -run XXX -bench Call -benchmem

# what relaying costs, beside coturn
bench-relay *args:
    go run ./cmd/p2psip bench relay {{args}}

# calls through this program's proxy core, inside and across the border, beside Kamailio
bench-proxy *args:
    go test ./interwork/proxy -run XXX -bench 'Call/kamailio' -benchtime 3000x {{args}}

# how many calls' sound one core carries, encrypted
bench-media *args:
    go test ./interwork/media -run XXX -bench AnchoredCalls -benchtime 10x {{args}}

# calls between homes behind every kind of NAT, in network namespaces of this machine: as root, with iproute2, nftables and conntrack
natlab *args:
    P2PSIP_NATLAB=1 go test ./cmd/p2psip -run TestNATLab -v -timeout 30m {{args}}
