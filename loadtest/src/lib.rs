//! Load tester: tills over QUIC, latencies, audit
