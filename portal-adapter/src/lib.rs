//! The parents' web portal, a QUIC client of the engine
