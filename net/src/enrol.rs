//! Enrolment: the installation's own certificate authority and the bundles it gives to callers. The authority is made at
//! first start and lives in one folder; a bundle is one PEM file that a till is set up with.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use frokost_engine::{Caller, CallerId, Role, SchoolId, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::identity::Identity;
use crate::reset_key::ResetKey;
use crate::revocations::{self, Revoked, Watch};

/// The name every server certificate bears, whatever address it is reached at.
pub const SERVER_NAME: &str = "frokost.internal";

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const AUTHORITY_LIVES: Duration = Duration::from_secs(20 * 365 * 24 * 60 * 60);
const CLIENT_LIVES: Duration = Duration::from_secs(3 * 365 * 24 * 60 * 60);
/// A server certificate is made anew at every start.
const SERVER_LIVES: Duration = Duration::from_secs(2 * 365 * 24 * 60 * 60);

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
    folder: PathBuf,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    reset_key: ResetKey,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.folder.display())
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

/// One line of the list of everyone enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Who.
    pub caller: Caller,
    /// Under which name.
    pub name: String,
}

impl Authority {
    /// The authority in `folder`; makes one there if there is none.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn load_or_create(folder: &Path) -> Result<Authority, EnrolError> {
        let (certificate_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        if !certificate_path.exists() && !key_path.exists() {
            fs::create_dir_all(folder).map_err(file_error(folder))?;
            let key = KeyPair::generate()?;
            let pem = authority_params()?.self_signed(&key)?.pem();
            // The certificate comes last: where it is, the key is, too.
            write_new(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
            write_new(&certificate_path, pem.as_bytes(), 0o644)?;
        }
        let certificate_pem = fs::read_to_string(&certificate_path).map_err(file_error(&certificate_path))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| content(&certificate_path, &error))?;
        let key_pem = fs::read_to_string(&key_path).map_err(file_error(&key_path))?;
        let key = KeyPair::from_pem(&key_pem).map_err(|error| content(&key_path, &error))?;
        let reset_key = ResetKey::of(&key.serialize_der());
        let issuer = Issuer::new(authority_params()?, key);
        Ok(Authority { folder: folder.to_owned(), certificate, certificate_pem, issuer, reset_key })
    }

    /// Everyone enrolled so far.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn enrolled(&self) -> Result<Vec<Enrolled>, EnrolError> {
        let path = self.list();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(file_error(&path)(error)),
        };
        text.lines()
            .map(|line| parse_line(line).ok_or_else(|| content(&path, &format!("'{line}' is no entry"))))
            .collect()
    }

    /// Gives a new caller a number and a certificate. The name is for people and must be new.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn enrol(&self, name: &str, role: Role, school: SchoolId) -> Result<(Identity, String), EnrolError> {
        let sound = (1..=32).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if !sound {
            return Err(EnrolError::BadName(name.to_owned()));
        }
        let path = self.list();
        // Two that enrol at once would give out the same number.
        let mut list = self.locked_list()?;
        let mut text = String::new();
        list.read_to_string(&mut text).map_err(file_error(&path))?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        // A line that was torn by a power cut was never told to anybody.
        list.set_len(whole as u64).map_err(file_error(&path))?;
        let enrolled = self.enrolled()?;
        if enrolled.iter().any(|other| other.name == name) {
            return Err(EnrolError::NameTaken(name.to_owned()));
        }
        let number = enrolled.iter().map(|other| other.caller.id.0).max().unwrap_or(0) + 1;
        let caller = Caller { id: CallerId(number), role, school };
        writeln!(list, "{} {} {} {name}", caller.id, role.name(), school)
            .and_then(|()| list.sync_all())
            .map_err(file_error(&path))?;
        let identity = Identity(caller);
        Ok((identity, self.bundle(identity)?))
    }

    /// Lets a till in no more, and says who it is and since when that is so. A running server closes its connections within two seconds.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn revoke(&self, name: &str, now: Timestamp) -> Result<(Caller, Timestamp), EnrolError> {
        self.change_revoked(name, |revoked, id| *revoked.entry(id).or_insert(now))
    }

    /// Lets a till in again that was revoked, and says who it is and since when it had been, if it was.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn readmit(&self, name: &str) -> Result<(Caller, Option<Timestamp>), EnrolError> {
        self.change_revoked(name, |revoked, id| revoked.remove(&id))
    }

    fn change_revoked<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut Revoked, CallerId) -> T,
    ) -> Result<(Caller, T), EnrolError> {
        // Of two changes at once one would be lost.
        let _lock = self.locked_list()?;
        let known = self.enrolled()?.into_iter().find(|enrolled| enrolled.name == name);
        let caller = known.ok_or_else(|| EnrolError::NoSuchCaller(name.to_owned()))?.caller;
        if caller.role != Role::Till {
            return Err(EnrolError::NotATill { name: name.to_owned(), role: caller.role });
        }
        let mut revoked = self.revoked()?;
        let changed = change(&mut revoked, caller.id);
        revocations::write(&self.revoked_file(), &revoked)?;
        Ok((caller, changed))
    }

    /// Who is let in no more.
    ///
    /// # Errors
    /// [`EnrolError`].
    pub fn revoked(&self) -> Result<Revoked, EnrolError> {
        revocations::read(&self.revoked_file())
    }

    /// For a server, which looks again and again.
    pub(crate) fn watch_revoked(&self) -> Result<Watch, EnrolError> {
        Watch::begin(self.revoked_file())
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

    fn list(&self) -> PathBuf {
        self.folder.join("callers")
    }

    /// The list, for one at a time.
    fn locked_list(&self) -> Result<File, EnrolError> {
        let path = self.list();
        let list = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(file_error(&path))?;
        list.lock().map_err(file_error(&path))?;
        Ok(list)
    }

    fn revoked_file(&self) -> PathBuf {
        self.folder.join("revoked")
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
    let now = SystemTime::now();
    // A till's clock may be off by a day.
    params.not_before = (now - DAY).into();
    params.not_after = (now + lives).into();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

fn parse_line(line: &str) -> Option<Enrolled> {
    let mut words = line.split(' ');
    let id = CallerId(words.next()?.parse().ok()?);
    let role = Role::from_name(words.next()?)?;
    let school = SchoolId(words.next()?.parse().ok()?);
    let name = words.next()?.to_owned();
    words.next().is_none().then_some(Enrolled { caller: Caller { id, role, school }, name })
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
    fn enrolment_survives_a_restart_and_names_are_unique() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let (first, pem) = authority.enrol("till-1", Role::Till, SchoolId(1)).unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        assert!(matches!(authority.enrol("till-1", Role::Till, SchoolId(1)), Err(EnrolError::NameTaken(_))));
        assert!(matches!(authority.enrol("Till 1", Role::Till, SchoolId(1)), Err(EnrolError::BadName(_))));
        let (second, _) = authority.enrol("portal", Role::Portal, SchoolId(0)).unwrap();
        assert_ne!(first.0.id, second.0.id);
        assert_eq!(Bundle::from_pem(pem.as_bytes()).unwrap().identity(), Some(first));
        assert_eq!(authority.enrolled().unwrap().len(), 2);
    }

    #[test]
    fn a_till_is_revoked_once_and_readmitted_and_nobody_else_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_create(folder.path()).unwrap();
        let (till, _) = authority.enrol("till-1", Role::Till, SchoolId(1)).unwrap();
        authority.enrol("portal", Role::Portal, SchoolId(0)).unwrap();
        let (first, later) = (Timestamp(1000), Timestamp(2000));
        assert_eq!(authority.revoke("till-1", first).unwrap(), (till.0, first));
        assert_eq!(authority.revoke("till-1", later).unwrap(), (till.0, first), "it stays as it was");
        let authority = Authority::load_or_create(folder.path()).unwrap();
        assert_eq!(authority.revoked().unwrap(), Revoked::from([(till.0.id, first)]));
        assert_eq!(authority.readmit("till-1").unwrap(), (till.0, Some(first)));
        assert_eq!(authority.readmit("till-1").unwrap(), (till.0, None));
        assert_eq!(authority.revoked().unwrap(), Revoked::new());
        let unknown = authority.revoke("till-2", first).unwrap_err().to_string();
        assert!(unknown.contains("no caller named 'till-2'"), "{unknown}");
        let portal = authority.revoke("portal", first).unwrap_err().to_string();
        assert_eq!(portal, "'portal' is no till but the installation's portal, which cannot be revoked");
    }

    #[test]
    fn something_else_is_no_bundle() {
        assert!(Bundle::from_pem(b"").is_none());
        assert!(Bundle::from_pem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_none());
        let missing = Bundle::read(Path::new("/nonexistent/till.pem")).unwrap_err().to_string();
        assert!(missing.starts_with("/nonexistent/till.pem:"), "{missing}");
    }
}
