//! Wire format, QUIC server and QUIC client of frokost
