//! UDP sockets with room for a rush: when a thousand tills ask at once, what does not fit into a socket's buffer is lost, and QUIC finds out only
//! after a while. The system's default has room for about two hundred packets.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use quinn::{Endpoint, EndpointConfig, ServerConfig};

/// As much as Linux grants where nobody has changed `net.core.rmem_max` and more; it gives what it has without a word.
const BUFFER: usize = 4 << 20;
/// With less than this a rush of a few hundred tills loses packets.
const LITTLE: usize = 1 << 20;

/// An endpoint on `address`; a server's with a configuration.
///
/// # Errors
/// If the address is taken, or no runtime runs.
pub fn endpoint(address: SocketAddr, config: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    // Less than what was asked for is no error.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    let got = rustix::net::sockopt::socket_recv_buffer_size(&socket)?;
    if got < LITTLE && config.is_some() {
        tracing::warn!(got, "the system gives little room for packets; raise net.core.rmem_max to 4194304");
    }
    let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("there is no runtime"))?;
    Endpoint::new(EndpointConfig::default(), config, socket, runtime)
}
