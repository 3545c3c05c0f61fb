//! Enrolment: the installation's own certificate authority and the bundles it gives to callers. The authority is made at
//! first start and lives in one folder; a bundle is one PEM file that a till is set up with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use frokost_engine::{Role, SchoolId};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use crate::callers::Callers;
use crate::identity::Identity;
use crate::reset_key::ResetKey;

/// The name every server certificate bears, whatever address it is reached at.
pub const SERVER_NAME: &str = "frokost.internal";

const AUTHORITY_LIVES: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
const CLIENT_LIVES: Duration = Duration::from_secs(3 * 365 * 24 * 60 * 60);
/// A server certificate is made anew at every start, and its key is in memory only; a server may run for years.
const SERVER_LIVES: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);

/// Why somebody cannot be enrolled, or a bundle not read.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {why}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The name is taken.
    #[error("there is a caller named '{0}' already; choose another name")]
    NameTaken(String),
    /// The name cannot be one.
    #[error("'{0}' is no name for a caller: use 1 to 32 lower-case letters, digits and hyphens")]
    BadName(String),
    /// Nobody has the name.
    #[error("there is no caller named '{0}'; `frokost till list` shows who there is")]
    NoSuchCaller(String),
    /// Only tills can be revoked.
    #[error("'{name}' is no till but the installation's {}, which cannot be revoked", role.name())]
    NotATill {
        /// Who.
        name: String,
        /// What it is instead.
        role: Role,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The installation's certificate authority.
pub struct Authority {
    callers: Callers,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    reset_key: ResetKey,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({:?})", self.callers)
    }
}

/// A caller's certificate, key and the authority it trusts.
pub struct Bundle {
    /// Its own certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
    /// The only authority it trusts.
    pub authority: CertificateDer<'static>,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundle({:?})", Identity::from_certificate(&self.certificate))
    }
}

impl Clone for Bundle {
    fn clone(&self) -> Bundle {
        Bundle { certificate: self.certificate.clone(), key: self.key.clone_key(), authority: self.authority.clone() }
    }
}

impl Authority {
    /// The authority in `folder`; makes one there if there is none.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn load_or_create(folder: &Path) -> Result<Authority, EnrolError> {
        let (certificate_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !certificate_path.exists() {
            fs::create_dir_all(folder).map_err(file_error(folder))?;
            // The certificate comes last: where it is, the key is, too. If the power failed between them, it is made of the key that is there.
            if !key_path.exists() {
                replace(&key_path, KeyPair::generate()?.serialize_pem().as_bytes())?;
            }
            let key_pem = fs::read_to_string(&key_path).map_err(file_error(&key_path))?;
            let key = KeyPair::from_pem(&key_pem).map_err(|error| content(&key_path, &error))?;
            replace(&certificate_path, authority_params()?.self_signed(&key)?.pem().as_bytes())?;
        }
        let certificate_pem = fs::read_to_string(&certificate_path).map_err(file_error(&certificate_path))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| content(&certificate_path, &error))?;
        let key_pem = fs::read_to_string(&key_path).map_err(file_error(&key_path))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|error| content(&key_path, &error))?;
        let reset_key = ResetKey::of(&key.serialize_der());
        let issuer = Issuer::new(authority_params()?, key);
        Ok(Authority { callers: Callers::of(folder), certificate, certificate_pem, issuer, reset_key })
    }

    /// Who is enrolled, and who is let in no more.
    #[must_use]
    pub fn callers(&self) -> &Callers {
        &self.callers
    }

    /// Gives a new caller a number and a certificate. The name is for people and must be new.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn enrol(&self, name: &str, role: Role, school: SchoolId) -> Result<(Identity, String), EnrolError> {
        let identity = Identity(self.callers.add(name, role, school)?);
        Ok((identity, self.bundle(identity)?))
    }

    /// A new bundle for an identity, as the text of a PEM file.
    ///
    /// # Errors
    /// [`EnrolError::Certificate`].
    pub fn bundle(&self, identity: Identity) -> Result<String, EnrolError> {
        let mut params = params(CLIENT_LIVES);
        let uri = Ia5String::try_from(identity.uri())?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let name = format!("{} {}", identity.0.role.name(), identity.0.id);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(format!("{}{}{}", certificate.pem(), key.serialize_pem(), self.certificate_pem))
    }

    /// A new certificate for the server itself.
    ///
    /// # Errors
    /// [`EnrolError::Certificate`].
    pub(crate) fn server(&self) -> Result<Bundle, EnrolError> {
        let mut params = params(SERVER_LIVES);
        params.subject_alt_names = vec![SanType::DnsName(Ia5String::try_from(SERVER_NAME)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        Ok(Bundle { certificate: certificate.der().clone(), key, authority: self.certificate.clone() })
    }

    /// With which a server of this installation tells those whom it does not know that they were connected to one before it.
    pub(crate) fn reset_key(&self) -> ResetKey {
        self.reset_key.clone()
    }
}

impl Bundle {
    /// Reads a bundle: own certificate, own key, the authority's certificate.
    ///
    /// # Errors
    /// [`EnrolError`] naming the file and what it lacks.
    pub fn read(path: &Path) -> Result<Bundle, EnrolError> {
        let pem = fs::read(path).map_err(file_error(path))?;
        Bundle::from_pem(&pem).ok_or_else(|| content(path, &"this is no frokost bundle (certificate, key, authority)"))
    }

    /// Reads a bundle from the text of a PEM file.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Option<Bundle> {
        let mut certificates = CertificateDer::pem_slice_iter(pem);
        let certificate = certificates.next()?.ok()?;
        let authority = certificates.next()?.ok()?;
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        Some(Bundle { certificate, key, authority })
    }

    /// Is its certificate good at that moment? It is not when it has run out by then, or is not of the authority beside it.
    #[must_use]
    pub fn is_good_at(&self, at: SystemTime) -> bool {
        let Ok(since) = at.duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let anchor = webpki::anchor_from_trusted_cert(&self.authority);
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        let verified = webpki::EndEntityCert::try_from(&self.certificate).and_then(|certificate| {
            let usage = webpki::KeyUsage::client_auth();
            let at = UnixTime::since_unix_epoch(since);
            certificate.verify_for_usage(algorithms.all, &[anchor?], &[], at, usage, None, None).map(drop)
        });
        verified.is_ok()
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> Option<Identity> {
        Identity::from_certificate(&self.certificate)
    }
}

/// Writes a file that must not be there yet, and makes it durable.
///
/// # Errors
/// [`EnrolError::File`].
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), EnrolError> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(file_error(path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(file_error(path))?;
    sync_parent(path).map_err(file_error(path))
}

/// Puts a new file in the place of one that may be there, for its owner alone; whenever the machine stops, it is one of the two, and whole.
///
/// # Errors
/// [`EnrolError::File`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), EnrolError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let beside = PathBuf::from(name);
    let written = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        sync_parent(path)
    };
    written().map_err(file_error(path))
}

/// Makes the name of a new file survive a power cut.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

/// The authority's parameters. Always the same but for the dates, which signing does not look at, so that the issuer can be
/// made again from the key alone.
fn authority_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(AUTHORITY_LIVES);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "frokost installation");
    Ok(params)
}

fn params(lives: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    // A clock that is wrong when a certificate is made, here or at the other end, is no reason to refuse it when it is right: it begins long
    // before, and a clock that stands before this program was written is not believed.
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    let written = SystemTime::from(rcgen::date_time_ymd(2026, 11, 28));
    params.not_after = (SystemTime::now().max(written) + lives).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> EnrolError {
    let path = path.to_owned();
    move |source| EnrolError::File { path, source }
}

pub(crate) fn content(path: &Path, why: &dyn std::fmt::Display) -> EnrolError {
    EnrolError::Content { path: path.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_made_once_and_its_bundles_say_whose_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let (till, pem) = {
            let authority = Authority::load_or_create(folder.path()).unwrap();
            authority.enrol("till-1", Role::Till, SchoolId(1)).unwrap()
        };
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let bundle = Bundle::from_pem(pem.as_bytes()).unwrap();
        assert_eq!((bundle.identity(), bundle.authority), (Some(till), authority.certificate));
        assert_eq!(authority.callers.enrolled().unwrap().len(), 1);
        // The power failed between the key and the certificate: one is made of the key, and the bundle is still of this authority.
        fs::remove_file(folder.path().join("ca.pem")).unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let again = Bundle { authority: authority.certificate.clone(), ..Bundle::from_pem(pem.as_bytes()).unwrap() };
        assert!(again.is_good_at(SystemTime::now()));
    }

    #[test]
    fn a_bundle_is_good_for_three_years_and_with_its_own_authority() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let (_, pem) = authority.enrol("till-1", Role::Till, SchoolId(1)).unwrap();
        let bundle = Bundle::from_pem(pem.as_bytes()).unwrap();
        let days = |days: u32| SystemTime::now() + Duration::from_secs(24 * 60 * 60) * days;
        assert!(bundle.is_good_at(days(0)) && bundle.is_good_at(days(3 * 365 - 1)));
        let years_ago = SystemTime::now() - Duration::from_secs(3 * 365 * 24 * 60 * 60);
        assert!(bundle.is_good_at(years_ago), "a clock that is behind at the other end");
        assert!(!bundle.is_good_at(days(3 * 365 + 1)) && !bundle.is_good_at(SystemTime::UNIX_EPOCH));
        let elsewhere = tempfile::tempdir().unwrap();
        let other = Authority::load_or_create(elsewhere.path()).unwrap();
        assert!(!Bundle { authority: other.certificate, ..bundle }.is_good_at(days(0)));
    }

    #[test]
    fn something_else_is_no_bundle() {
        assert!(Bundle::from_pem(b"").is_none());
        assert!(Bundle::from_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_none());
        let missing = Bundle::read(Path::new("/nonexistent/till.pem")).unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent/till.pem:"), "{missing}");
    }
}
