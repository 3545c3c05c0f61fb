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

# The program built by what a lunch rush passes through, and laid out anew by another: target/pgo/frokost.
release:
    scripts/release

# Every benchmark; docs/benchmarks.md says what the numbers mean.
bench *ARGS:
    cargo bench {{ARGS}}

# Kills the server many more times than CI does.
kill TIMES="1000":
    FROKOST_KILLS={{TIMES}} cargo nextest run --profile long --no-capture --test e2e killed_under_load

# Cuts the power many more times than CI does (needs root).
cut TIMES="50":
    FROKOST_CUTS={{TIMES}} cargo nextest run --profile long --no-capture --test e2e the_power_is_cut

# Plays many more simulated school days than CI does.
simulate SEEDS="100000":
    FROKOST_SEEDS={{SEEDS}} cargo nextest run --profile long --no-capture --release -p frokost-engine school_days

# Breaks one guard of the money after the other and shows that the tests notice.
mutants *NAME:
    scripts/mutants {{NAME}}

# How memory, disk and start grow from ten thousand to a million accounts.
scale *SIZES:
    cargo bench --bench scale -- {{SIZES}}

# Takes the pictures in docs/pictures anew.
pictures:
    mkdir -p docs/pictures
    PICTURES="$PWD/docs/pictures" cargo nextest run --test e2e -E "test(portal::)"
