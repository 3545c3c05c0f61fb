//! How late an acknowledgement may come: what each side tells the other (`max_ack_delay`, RFC 9000, 18.2). quinn acknowledges within 25 ms
//! of looking at a packet and says so, but a side whose processors are busy looks at it later. Whoever takes that for a loss sends
//! everything again, and both have twice the work just when they can do the least. quinn has no setting for what is said, so it is put into the
//! parameters where they are handed to TLS.

use std::sync::Arc;

use quinn::crypto::{ClientConfig, Keys, ServerConfig, Session, UnsupportedVersion};
use quinn::{ConnectError, ConnectionId, Side};
use quinn_proto::transport_parameters::TransportParameters;

/// Longer than a busy machine looks away, and short enough for somebody at a till whose packet was lost in earnest. In milliseconds.
const ACKNOWLEDGED_WITHIN: u16 = 150;

/// One side's parameters with that time in them.
fn with_delay(side: Side, params: &TransportParameters) -> TransportParameters {
    let mut bytes = Vec::new();
    params.write(&mut bytes);
    // The parameter's number, the length of its value, and that as an integer of two bytes.
    bytes.extend([0x0b, 2]);
    bytes.extend((0x4000 | ACKNOWLEDGED_WITHIN).to_be_bytes());
    // Read as the other side reads them. Had quinn said a time already, there would be two, which is not allowed: then its own holds.
    TransportParameters::read(!side, &mut bytes.as_slice()).unwrap_or(*params)
}

/// TLS of a server that says how late it may be.
pub(crate) struct PatientServer<T>(pub(crate) Arc<T>);

impl<T: ServerConfig> ServerConfig for PatientServer<T> {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        self.0.initial_keys(version, dst_cid)
    }

    fn retry_tag(&self, version: u32, orig_dst_cid: &ConnectionId, packet: &[u8]) -> [u8; 16] {
        self.0.retry_tag(version, orig_dst_cid, packet)
    }

    fn start_session(self: Arc<Self>, version: u32, params: &TransportParameters) -> Box<dyn Session> {
        Arc::clone(&self.0).start_session(version, &with_delay(Side::Server, params))
    }
}

/// TLS of a client that says how late it may be.
pub(crate) struct PatientClient<T>(pub(crate) Arc<T>);

impl<T: ClientConfig> ClientConfig for PatientClient<T> {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        Arc::clone(&self.0).start_session(version, server_name, &with_delay(Side::Client, params))
    }
}
