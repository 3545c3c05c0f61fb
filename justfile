# What there is to run. `just` lists it; CI runs the same commands (.ci/run).

_default:
    @just --list

# A small school, a lunch rush, and the portal to look at.
demo *ARGS:
    cargo run --release -- demo {{ARGS}}

# Every test; installs what is missing.
test *ARGS:
    scripts/test {{ARGS}}

# Format and lints, as CI wants them.
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# Licences, sources and banned crates (needs cargo-deny).
deny:
    cargo deny check bans licenses sources

# Every benchmark; docs/benchmarks.md says what the numbers mean.
bench *ARGS:
    cargo bench {{ARGS}}

# Kills the server many more times than CI does.
kill TIMES="1000":
    FROKOST_KILLS={{TIMES}} cargo nextest run --test e2e killed_under_load

# Takes the pictures in docs/pictures anew.
pictures:
    mkdir -p docs/pictures
    PICTURES="$PWD/docs/pictures" cargo nextest run --test e2e a_parent_logs_in
