//! Who is calling, as the certificate says: a URI name `frokost://<role>/<number>?school=<number>` in it. Nothing in the
//! payload is ever asked for this.

use frokost_engine::{Caller, CallerId, Role, SchoolId};
use rustls::pki_types::CertificateDer;

/// A caller's identity, in the form in which it stands in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(pub Caller);

impl Identity {
    /// The URI name for a certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        let Caller { id, role, school } = self.0;
        format!("frokost://{}/{id}?school={school}", role.name())
    }

    /// Reads a URI name.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Identity> {
        let (role, rest) = uri.strip_prefix("frokost://")?.split_once('/')?;
        let (id, school) = rest.split_once("?school=")?;
        Some(Identity(Caller {
            id: CallerId(id.parse().ok()?),
            role: Role::from_name(role)?,
            school: SchoolId(school.parse().ok()?),
        }))
    }

    /// Reads the identity out of a certificate whose chain has been verified. Nothing if it names none, or two.
    #[must_use]
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Option<Identity> {
        let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
        let mut identities = certificate.valid_uri_names().filter_map(Identity::from_uri);
        let identity = identities.next()?;
        identities.next().is_none().then_some(identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back() {
        for role in Role::ALL {
            let identity = Identity(Caller { id: CallerId(42), role, school: SchoolId(7) });
            assert_eq!(Identity::from_uri(&identity.uri()), Some(identity));
        }
        for uri in [
            "",
            "frokost://till/42",
            "frokost://cook/1?school=1",
            "https://till/1?school=1",
            "frokost://till/-1?school=1",
        ] {
            assert_eq!(Identity::from_uri(uri), None, "{uri}");
        }
    }
}
