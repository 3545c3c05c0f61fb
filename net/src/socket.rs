//! UDP sockets with room for a rush: when a thousand tills ask at once, what does not fit into a socket's buffer is lost, and QUIC finds out only
//! after a while. The system's default has room for about two hundred packets. Names for connections that no two of them share.
//! And packets that leave many at once.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use quinn::{AsyncUdpSocket, ConnectionIdGenerator, Endpoint, EndpointConfig, ServerConfig};
use quinn_proto::RandomConnectionIdGenerator;

use crate::batch_socket::BatchSocket;
use crate::lossy_socket::{Loss, LossySocket};

/// As much as Linux grants where nobody has changed `net.core.rmem_max` and more; it gives what it has without a word.
const BUFFER: usize = 4 << 20;
/// With less than this a rush of a few hundred tills loses packets.
const LITTLE: usize = 1 << 20;

/// An endpoint on `address`, with [`names`]; a server's with a configuration.
///
/// # Errors
/// If the address is taken, or no runtime runs.
pub fn endpoint(address: SocketAddr, names: EndpointConfig, config: Option<ServerConfig>) -> io::Result<Endpoint> {
    endpoint_that_loses(address, names, config, None)
}

/// The same on a network that loses packets.
pub(crate) fn endpoint_that_loses(
    address: SocketAddr,
    names: EndpointConfig,
    config: Option<ServerConfig>,
    loss: Option<Loss>,
) -> io::Result<Endpoint> {
    let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("there is no runtime"))?;
    let socket = bind(address, config.is_some())?;
    let mut socket: Arc<dyn AsyncUdpSocket> = BatchSocket::new(runtime.wrap_udp_socket(socket)?);
    if let Some(loss) = loss {
        socket = LossySocket::around(socket, loss);
    }
    Endpoint::new_with_abstract_socket(names, config, socket, runtime)
}

/// For an endpoint whose connections have names of their own.
#[must_use]
pub fn names() -> EndpointConfig {
    let mut names = EndpointConfig::default();
    names.cid_generator(connection_ids);
    // A bit of chance for each packet that the other side sends, so that nobody between the two relies on it. Here nobody is, and chance costs.
    names.grease_quic_bit(false);
    names
}

/// A socket with room; a server that gets little is told what to do about it.
///
/// # Errors
/// If the address is taken.
pub fn bind(address: SocketAddr, serves: bool) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // Less than what was asked for is no error.
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, BUFFER)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, BUFFER)?;
    let got = rustix::net::sockopt::socket_recv_buffer_size(&socket)?;
    if got < LITTLE && serves {
        tracing::warn!(got, "the system gives little room for packets; raise net.core.rmem_max to 4194304");
    }
    Ok(socket)
}

/// Eight bytes of chance. quinn's own choice has three, and the name it gives to a newcomer who has to prove its address first is not looked up
/// among those in use: of a thousand tills that connect at once, one in three thousand would be taken for another and hear nothing.
fn connection_ids() -> Box<dyn ConnectionIdGenerator> {
    Box::new(RandomConnectionIdGenerator::new(8))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_connections_have_one_name() {
        let mut names = connection_ids();
        let many: HashSet<Vec<u8>> = (0..50_000).map(|_| names.generate_cid().to_vec()).collect();
        // With three bytes of chance some seventy would be there twice.
        assert_eq!(many.len(), 50_000);
    }
}
