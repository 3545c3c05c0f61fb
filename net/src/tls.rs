//! TLS 1.3 and QUIC transport settings of both ends. Certificates on both sides, no tickets and no 0-RTT: a resumed session
//! would escape a revocation, and an early request could be replayed.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};

use crate::ack_delay::{PatientClient, PatientServer};
use crate::enrol::Bundle;
use crate::wire::ALPN;

/// Why a side cannot be set up for TLS.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct TlsError(String);

fn failed(error: impl std::fmt::Display) -> TlsError {
    TlsError(error.to_string())
}

/// AES-128-GCM first: with AES in hardware it is the cheapest of the three.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(provider)
}

fn roots(bundle: &Bundle) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add(bundle.authority.clone()).map_err(failed)?;
    Ok(roots)
}

/// Only the installation's own authority vouches for clients, and everyone needs a certificate.
pub(crate) fn server_config(bundle: &Bundle) -> Result<ServerConfig, TlsError> {
    let provider = provider();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(bundle)?), Arc::clone(&provider))
        .build()
        .map_err(failed)?;
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![bundle.certificate.clone()], bundle.key.clone_key())
        .map_err(failed)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(NoServerSessionStorage {});
    tls.max_early_data_size = 0;
    let tls = Arc::new(QuicServerConfig::try_from(tls).map_err(failed)?);
    let mut config = ServerConfig::with_crypto(Arc::new(PatientServer(tls)));
    config.max_incoming(1024);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(8))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        // One bound for both, so that a stream is seldom told that it may go on. A caller whose stream is not read from, since it does not read
        // its answers, cannot use its others either.
        .stream_receive_window(VarInt::from_u32(256 * 1024))
        .receive_window(VarInt::from_u32(256 * 1024))
        .send_window(1024 * 1024)
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(15_000))));
    config.transport_config(Arc::new(transport));
    Ok(config)
}

pub(crate) fn client_config(bundle: &Bundle) -> Result<ClientConfig, TlsError> {
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?
        .with_root_certificates(roots(bundle)?)
        .with_client_auth_cert(vec![bundle.certificate.clone()], bundle.key.clone_key())
        .map_err(failed)?;
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.resumption = rustls::client::Resumption::disabled();
    let tls = Arc::new(QuicClientConfig::try_from(tls).map_err(failed)?);
    let mut config = ClientConfig::new(Arc::new(PatientClient(tls)));
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .keep_alive_interval(Some(Duration::from_secs(5)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(15_000))));
    config.transport_config(Arc::new(transport));
    Ok(config)
}
