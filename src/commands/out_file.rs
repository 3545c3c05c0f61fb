//! A file that is written at the end of something long: that it can be written is known before, and what was there stays until then.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Where something will be written.
#[derive(Debug)]
pub(crate) struct OutFile {
    /// Without links on the way: whoever names a link means what it leads to.
    path: PathBuf,
    /// Beside it, and renamed to it when it is whole. None where there is a device or a pipe, or a file in a folder that takes no other.
    part: Option<Part>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    /// What the file has that it takes the place of.
    permissions: Option<Permissions>,
}

impl OutFile {
    /// # Errors
    /// If nothing can be written there.
    pub(crate) fn prepare(named: &Path) -> anyhow::Result<OutFile> {
        let cannot = || format!("{} cannot be written", named.display());
        anyhow::ensure!(!named.as_os_str().as_encoded_bytes().ends_with(b"/"), "{}: that is a folder", cannot());
        let there = fs::metadata(named).ok();
        let path = match &there {
            Some(there) => {
                anyhow::ensure!(!there.is_dir(), "{}: it is a folder", cannot());
                OpenOptions::new().append(true).open(named).with_context(cannot)?;
                fs::canonicalize(named).with_context(cannot)?
            }
            None => {
                let folder = named.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                fs::canonicalize(folder).with_context(cannot)?.join(named.file_name().with_context(cannot)?)
            }
        };
        let is_other = there.as_ref().is_some_and(|there| !there.is_file());
        if is_other || ["/dev", "/proc"].iter().any(|system| named.starts_with(system) || path.starts_with(system)) {
            return Ok(OutFile { path, part: None });
        }
        let mut name = path.file_name().with_context(cannot)?.to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(name);
        let permissions = there.map(|there| there.permissions());
        match File::create(&part) {
            Ok(file) => Ok(OutFile { path, part: Some(Part { path: part, file, permissions }) }),
            Err(_) if permissions.is_some() => Ok(OutFile { path, part: None }),
            Err(error) => Err(error).with_context(cannot),
        }
    }

    /// Where it really is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// If it cannot be written after all.
    pub(crate) fn write(mut self, text: &str) -> anyhow::Result<()> {
        let cannot = || format!("{} cannot be written", self.path.display());
        let Some(Part { path: part, file, permissions }) = &mut self.part else {
            return fs::write(&self.path, text).with_context(cannot);
        };
        if let Some(permissions) = permissions.take() {
            file.set_permissions(permissions).with_context(cannot)?;
        }
        file.write_all(text.as_bytes()).with_context(cannot)?;
        // Or a power cut could leave an empty file where yesterday's was.
        file.sync_all().with_context(cannot)?;
        fs::rename(part, &self.path).with_context(cannot)
    }
}

impl Drop for OutFile {
    fn drop(&mut self) {
        // Gone already where it was renamed.
        if let Some(Part { path, .. }) = &self.part {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_was_there_stays_until_there_is_something_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        fs::write(&path, "yesterday's").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        drop(OutFile::prepare(&path).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "yesterday's");
        OutFile::prepare(&path).unwrap().write("today's").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "today's");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something is left behind");
    }

    #[test]
    fn who_names_a_link_means_what_it_leads_to() {
        let folder = tempfile::tempdir().unwrap();
        let (latest, real) = (folder.path().join("latest.json"), folder.path().join("monday.json"));
        fs::write(&real, "").unwrap();
        symlink(&real, &latest).unwrap();
        OutFile::prepare(&latest).unwrap().write("new").unwrap();
        assert!(fs::symlink_metadata(&latest).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
        let [one, other] = [&latest, &folder.path().join("./monday.json")].map(|path| OutFile::prepare(path).unwrap());
        assert_eq!(one.path(), other.path());
    }

    #[test]
    fn where_nothing_can_be_written_is_said_before() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("reports/");
        for path in [folder.path().to_owned(), missing, folder.path().join("no/such/folder"), PathBuf::from("/")] {
            let error = OutFile::prepare(&path).unwrap_err().to_string();
            assert!(error.contains("cannot be written"), "{error}");
        }
        OutFile::prepare(Path::new("/dev/null")).unwrap().write("away").unwrap();
    }
}
